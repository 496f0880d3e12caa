// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"
)

// console is standard error: whole lines of notes, and on a terminal at most
// one line that is drawn again and again. Safe for concurrent use.
type console struct {
	mu       sync.Mutex
	file     *os.File
	terminal bool
	line     string // what is drawn; "" for nothing
}

func newConsole(f *os.File) *console {
	return &console{file: f, terminal: term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"}
}

const clearLine = "\r\x1b[K"

// Write implements io.Writer for help texts.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.Write(p)
}

// note prints a line of its own, above the drawn one.
func (c *console) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line == "" {
		fmt.Fprintln(c.file, text)
		return
	}
	fmt.Fprint(c.file, clearLine, text, "\n", c.line)
}

// draw replaces the drawn line; "" takes it away.
func (c *console) draw(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text == "" && c.line == "" {
		return
	}
	if width, _, err := term.GetSize(int(c.file.Fd())); err == nil && width > 1 {
		if r := []rune(text); len(r) >= width {
			text = string(r[:width-1]) // a wrapped line could not be taken back
		}
	}
	c.line = text
	fmt.Fprint(c.file, clearLine, text)
}

func (c *console) fail(f failure) {
	c.draw("")
	c.note("tidemark: " + f.Message)
	if f.Hint != "" {
		c.note("hint: " + f.Hint)
	}
}

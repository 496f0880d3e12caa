// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const maxPassphrase = 4096

var errNoPassphrase = &hintError{
	err:  errors.New("no passphrase: TIDEMARK_PASSWORD_FILE and TIDEMARK_PASSWORD are not set, and there is no terminal to ask at"),
	hint: "put it in a file that only you can read, and its path in TIDEMARK_PASSWORD_FILE",
}

// passphrase finds the repository's passphrase (U4). A new one is asked for twice.
func (a *app) passphrase(ctx context.Context, isNew bool) ([]byte, error) {
	if path := os.Getenv("TIDEMARK_PASSWORD_FILE"); path != "" {
		a.passphraseFrom = "the file " + path + " (TIDEMARK_PASSWORD_FILE)"
		return passphraseFile(path)
	}
	if p := os.Getenv("TIDEMARK_PASSWORD"); p != "" {
		a.passphraseFrom = "TIDEMARK_PASSWORD"
		return []byte(p), nil
	}
	if !term.IsTerminal(int(a.stdin.Fd())) && !a.console.terminal {
		return nil, errNoPassphrase
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errNoPassphrase
	}
	defer tty.Close()
	a.passphraseFrom = "the terminal"
	return askPassphrase(ctx, tty, isNew)
}

// passphraseFile reads the first line of a file.
func passphraseFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase (TIDEMARK_PASSWORD_FILE): %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxPassphrase+2)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the passphrase (TIDEMARK_PASSWORD_FILE): %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case len(line) == 0:
		return nil, fmt.Errorf("the first line of the passphrase file %s is empty", path)
	case len(line) > maxPassphrase:
		return nil, fmt.Errorf("the first line of the passphrase file %s is longer than %d bytes", path, maxPassphrase)
	}
	return line, nil
}

func askPassphrase(ctx context.Context, tty *os.File, isNew bool) ([]byte, error) {
	first, err := prompt(ctx, tty, "Passphrase of the repository: ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	if !isNew {
		return first, nil
	}
	second, err := prompt(ctx, tty, "The same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}

// prompt reads a line without echo. It watches the context while it waits, so
// that a signal leaves the terminal as it was found.
func prompt(ctx context.Context, tty *os.File, question string) (line []byte, err error) {
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase from the terminal: %w", err)
	}
	silent := *before
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return nil, fmt.Errorf("switch the terminal's echo off: %w", err)
	}
	defer func() {
		fmt.Fprintln(tty)
		err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before))
	}()
	fmt.Fprint(tty, question)
	return readLine(ctx, fd)
}

// readLine waits for a line of a terminal, which comes in one read.
func readLine(ctx context.Context, fd int) ([]byte, error) {
	const look = 100 // milliseconds between two looks at the context
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, look)
		if n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for the terminal: %w", err)
		}
		buf := make([]byte, maxPassphrase+1)
		n, err = unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return nil, fmt.Errorf("read the passphrase from the terminal: %w", err)
		}
		return bytes.TrimRight(buf[:n], "\r\n"), nil
	}
	return nil, ctx.Err()
}

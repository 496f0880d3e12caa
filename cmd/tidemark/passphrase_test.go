// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what a person has, and what a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// A person types only once asked, as people do, and sees nothing of it.
func TestPromptShowsNothing(t *testing.T) {
	person, program := terminal(t)
	seen := make(chan string, 1)
	go func() {
		r := bufio.NewReader(person)
		asked, _ := r.ReadString(':') // an error shows as a missing question
		fmt.Fprintln(person, "swordfish")
		after, _ := r.ReadString('\n')
		seen <- asked + after
	}()
	line, err := prompt(t.Context(), program, "Who goes there: ")
	if err != nil || string(line) != "swordfish" {
		t.Fatalf("read %q, %v", line, err)
	}
	if screen := <-seen; strings.Contains(screen, "swordfish") || !strings.HasPrefix(screen, "Who goes there:") {
		t.Errorf("the screen shows %q", screen)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays without echo")
	}
}

func TestPromptEndsWithContext(t *testing.T) {
	person, program := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = bufio.NewReader(person).ReadString(':')
		cancel()
	}()
	if line, err := prompt(ctx, program, "Who goes there: "); !errors.Is(err, context.Canceled) {
		t.Fatalf("read %q, %v", line, err)
	}
	if !echoes(t, program) {
		t.Error("the terminal stays without echo")
	}
}

// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

// childEnv makes the test binary a writer that is to be killed.
const childEnv = "TIDEMARK_FOLDER_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, write(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const killedSize = 3<<20 + 5

// write puts objects for ever, several at a time, and says before each which
// one, and after it that it is done.
func write(dir string) error {
	s, err := Open(context.Background(), dir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for w := range 3 {
		wg.Go(func() {
			for i := uint64(w); ; i += 3 {
				n := rand.Uint64N(1 << 40)
				data := objtest.Bytes(n, killedSize)
				body := objstore.Body{data[:1], data[1 : killedSize/2], data[killedSize/2:]}
				fmt.Printf("begin %d\n", n)
				if err := s.Put(context.Background(), fmt.Sprintf("packs/%d/%d", i%4, n), body); err != nil {
					errs <- err
					return
				}
				fmt.Printf("done packs/%d/%d\n", i%4, n)
			}
		})
	}
	wg.Wait()
	return <-errs
}

// I2, I3: a writer killed at any moment leaves whole objects or none, and all
// those that it was told are stored.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const rounds = 12
	var done []string
	for range rounds {
		done = append(done, killOne(t, dir, 1+rand.IntN(12))...)
	}
	seen := map[string]bool{}
	err := s.List(t.Context(), "", func(i objstore.Info) error {
		seen[i.Name] = true
		if i.Size != killedSize {
			t.Errorf("%s has %d bytes", i.Name, i.Size)
		}
		checkObject(t, s, i.Name, killedSize)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range done {
		if !seen[name] {
			t.Errorf("%s was stored and is gone", name)
		}
	}
	if len(done) == 0 {
		t.Error("no writer came as far as storing an object: nothing was tested")
	}
	t.Logf("%d objects, %d reported, %d unfinished in tmp", len(seen), len(done), len(leftovers(t, s)))
}

// killOne starts a writer and kills it after so many lines of its output, at
// whatever it does just then. It returns the objects reported as stored.
func killOne(t *testing.T, dir string, lines int) (done []string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		if n == lines {
			_ = child.Process.Kill() // what it still says is read to the end
		}
		var name string
		if _, err := fmt.Sscanf(scanner.Text(), "done %s", &name); err == nil {
			done = append(done, name)
		}
	}
	if err := child.Wait(); err == nil || child.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return done
}

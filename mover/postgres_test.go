// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockio/looptest"
	"github.com/tidemark-io/tidemark/chunkstore"
)

const postgresBin = "/usr/lib/postgresql/15/bin"

// postgres runs PostgreSQL's programs as its own user.
type postgres struct {
	t    *testing.T
	cred *syscall.Credential
	uid  int
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	looptest.RequireRoot(t)
	if _, err := os.Stat(filepath.Join(postgresBin, "pg_amcheck")); err != nil {
		t.Skipf("needs PostgreSQL 15: %v", err)
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skipf("needs PostgreSQL's user: %v", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return &postgres{t: t, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, uid: uid}
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(postgresBin, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PGUSER=postgres", "PGDATABASE=postgres"}
	cmd.Dir = "/"
	return cmd
}

func (p *postgres) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// server is a running instance; its socket lies beside its data.
type server struct {
	*postgres
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
}

// start runs the instance under dir and waits until it takes connections.
func (p *postgres) start(dir string) *server {
	p.t.Helper()
	s := &server{postgres: p, dir: dir}
	s.cmd = p.command("postgres", "-D", filepath.Join(dir, "data"), "-k", dir, "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "logging_collector=off")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan bool)
	done := make(chan struct{})
	go func() { // ends with the process; stop waits for it
		defer close(done)
		lines := bufio.NewScanner(stderr)
		told := false
		for lines.Scan() {
			if told {
				continue
			}
			s.log.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "ready to accept connections") {
				told = true
				ready <- true
			}
		}
		if !told {
			ready <- false
		}
	}()
	ok := <-ready
	p.t.Cleanup(func() { // before the file system below is unmounted
		_ = s.cmd.Process.Signal(unix.SIGQUIT)
		<-done
		_ = s.cmd.Wait()
	})
	if !ok {
		p.t.Fatalf("the server in %s does not start:\n%s", dir, s.log.String())
	}
	return s
}

func (s *server) query(sql string) string {
	s.t.Helper()
	return s.run("psql", "-h", s.dir, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// load runs pgbench until the test ends; tick waits for its next line of progress.
func (s *server) load() (tick func()) {
	s.t.Helper()
	cmd := s.command("pgbench", "-h", s.dir, "-n", "-c", "2", "-T", "3600", "-P", "1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	return func() {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "progress:") {
				return
			}
		}
		s.t.Fatal("pgbench ended")
	}
}

// wantConsistent checks the structure of every table and index, and pgbench's
// own invariant: each transaction adds one amount to three tables and to its history.
func (s *server) wantConsistent(atLeast int) (transactions int) {
	s.t.Helper()
	s.run("pg_amcheck", "-h", s.dir, "--install-missing", "--heapallindexed", "--all")
	got := strings.Split(s.query(`SELECT (SELECT count(*) FROM pgbench_history),
		(SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT sum(abalance) FROM pgbench_accounts),
		(SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches)`), "|")
	if len(got) != 5 || got[1] != got[2] || got[1] != got[3] || got[1] != got[4] {
		s.t.Errorf("history and balances disagree: %q", got)
	}
	transactions, err := strconv.Atoi(got[0])
	if err != nil || transactions < atLeast {
		s.t.Errorf("%q transactions, %d were there before: %v", got[0], atLeast, err)
	}
	return transactions
}

// A database under load, whose image is copied while it runs: every point
// starts, is sound, and has at least what the one before had.
func TestPostgreSQLUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a database")
	}
	pg := newPostgres(t)
	host := reflinkHost(t, 4<<30)
	image := filepath.Join(host, "image")
	looptest.MakeFS(t, image, "ext4", 512<<20)
	repo := newRealRepo(t)
	var points []*chunkstore.Point
	before := ""
	t.Run("backups", func(t *testing.T) {
		pg := &postgres{t: t, cred: pg.cred, uid: pg.uid}
		dir := t.TempDir()
		looptest.Mount(t, looptest.Attach(t, image), dir)
		if err := os.Chown(dir, pg.uid, -1); err != nil {
			t.Fatal(err)
		}
		openToPostgres(t, dir)
		pg.run("initdb", "-D", filepath.Join(dir, "data"), "-A", "trust", "--data-checksums", "-N")
		s := pg.start(dir)
		pg.run("pgbench", "-h", dir, "-i", "-q", "-s", "4")
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil { // initdb was told not to
			t.Fatal(err)
		}
		tick := s.load()
		for i := range 4 {
			tick()
			snapshot := reflink(t, image, filepath.Join(host, fmt.Sprint("snapshot", i)))
			opt := BackupOptions{Source: snapshot, Snapshot: fmt.Sprint("s", i)}
			if i%2 == 1 {
				opt.Changes, opt.BaseSnapshot = claimOf(t, differing(t, before, snapshot)), fmt.Sprint("s", i-1)
			}
			rep, p := repo.backup(opt)
			t.Logf("%s: changed %d KiB, read %d, new %d, shipped %d, fetched %d", rep.Source, rep.ChangedBytes>>10, rep.ReadBytes>>10, rep.NewBytes>>10, rep.ShippedBytes>>10, rep.FetchedBytes>>10)
			points, before = append(points, p), snapshot
		}
	})
	transactions := 0
	for i, p := range points {
		t.Run(fmt.Sprintf("point %d by %s", i, p.Source), func(t *testing.T) {
			pg := &postgres{t: t, cred: pg.cred, uid: pg.uid}
			back := repo.restore(p, filepath.Join(host, fmt.Sprint("restored", i)))
			if d := differing(t, filepath.Join(host, fmt.Sprint("snapshot", i)), back); len(d) > 0 {
				t.Fatalf("it differs at %v", d[0])
			}
			dir := mountBack(t, back, "ext4")
			openToPostgres(t, dir)
			transactions = pg.start(dir).wantConsistent(transactions)
			t.Logf("%d transactions", transactions)
		})
	}
	if transactions == 0 {
		t.Error("no transaction in any point: this proves little")
	}
}

// openToPostgres lets another user pass the test's own folders.
func openToPostgres(t *testing.T, dir string) {
	t.Helper()
	for parent := filepath.Dir(dir); parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The server makes its lock file beside a stale one of the copied instance.
	stale, err := filepath.Glob(filepath.Join(dir, ".s.PGSQL.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(stale, filepath.Join(dir, "data", "postmaster.pid")) {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

package replay

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A server that takes connections and says nothing must not hold requests for longer than a server
// that is down.
func TestRedisThatHangsInTheHandshake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	g, err := Open("rediss://"+listener.Addr().String(), time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := g.firstUse(t.Context(), Key{1}, 5); err == nil || errors.Is(err, ErrUnsafe) {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(begun); waited > 5*time.Second {
		t.Errorf("waited %v", waited)
	}
}

// rediss proves who the server is. Otherwise an attacker on the way could answer that everything is
// the first use, and read the password.
func TestRedisThatCannotProveItself(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that fails
	server.StartTLS()
	defer server.Close()
	g, err := Open("rediss://user:s3cr3t@"+server.Listener.Addr().String(), time.Hour, time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := g.firstUse(t.Context(), Key{1}, 5); !errors.As(err, &unknown) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error %v", err)
	}
}

// fakeRedis plays as much of Redis as a raise needs, and loses answers: the command is done, and
// the connection is closed.
type fakeRedis struct {
	net.Listener
	mu     sync.Mutex
	number map[string]int64
	note   map[string]string
	lose   int
	raises int
	dials  int
}

func newFakeRedis(t *testing.T) *fakeRedis {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &fakeRedis{Listener: l, number: map[string]int64{}, note: map[string]string{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.dials++
			f.mu.Unlock()
			go f.serve(conn)
		}
	}()
	return f
}

func (f *fakeRedis) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var words int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		command := make([]string, words)
		for i := range command {
			var size int
			if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
				return
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			command[i] = string(word[:size])
		}
		answer, lost := f.do(command)
		if lost {
			return
		}
		io.WriteString(conn, answer)
	}
}

func (f *fakeRedis) do(command []string) (answer string, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if command[0] == "INFO" {
		return "$0\r\n\r\n", false
	}
	// EVALSHA script 2 number note from to life sealed grace
	f.raises++
	key := command[3]
	from, _ := strconv.ParseInt(command[5], 10, 64)
	to, _ := strconv.ParseInt(command[6], 10, 64)
	if f.number[key] > from {
		note := "$-1\r\n"
		if f.note[key] != "" {
			note = fmt.Sprintf("$%d\r\n%s\r\n", len(f.note[key]), f.note[key])
		}
		number := fmt.Sprint(f.number[key])
		answer = fmt.Sprintf("*2\r\n$%d\r\n%s\r\n%s", len(number), number, note)
	} else {
		f.number[key], f.note[key] = to, command[8]
		answer = "*0\r\n"
	}
	if f.lose > 0 {
		f.lose--
		return "", true
	}
	return answer, false
}

// A Redis that was restarted, or a proxy before it, closes the connection with the answer: the mark
// that was made is the caller's own.
func TestRedisMarkWhoseAnswerWasLost(t *testing.T) {
	f := newFakeRedis(t)
	store, err := newRedisStore("redis://" + f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g := &Guard{store: store, kind: "redis", life: time.Hour, ended: time.Hour}
	if first, err := g.firstUse(t.Context(), Key{1}, 5); !first || err != nil {
		t.Fatalf("a code: %v, %v", first, err)
	}
	lose := func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lose = n
	}
	lose(1)
	if first, err := g.firstUse(t.Context(), Key{2}, 6); !first || err != nil {
		t.Errorf("a code whose mark's answer was lost: %v, %v", first, err)
	}
	if first, err := g.firstUse(t.Context(), Key{2}, 7); first || err != nil {
		t.Errorf("another's use of it: %v, %v", first, err)
	}
	lose(1)
	if v, _, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed once")); v != Fresh || err != nil {
		t.Errorf("a refresh token: %v, %v", v, err)
	}
	if v, note, err := g.Step(t.Context(), Key{3}, 0, []byte("sealed again")); v != Repeated || string(note) != "sealed once" || err != nil {
		t.Errorf("another's use of it: %v, %q, %v", v, note, err)
	}
	lose(1)
	if err := g.End(t.Context(), Key{3}); err != nil {
		t.Errorf("the end of a login: %v", err)
	}
	raises := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.raises
	}
	before := raises()
	lose(9)
	if _, err := g.firstUse(t.Context(), Key{4}, 8); err == nil || raises()-before != 2 {
		t.Errorf("a store that never answers: %v after %d tries", err, raises()-before)
	}
}

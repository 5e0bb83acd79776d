package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// load sends requests that were written before, over connections of its own, and reads answers with
// as little work as there can be: it runs on the same processors as what it measures.
type load struct {
	addr        string
	connections int
	each        int // requests of each connection
	// request is the i-th request of a connection, as it goes over the wire.
	request func(connection, i int) []byte
	// status that each answer has, unless check is there.
	status int
	// check is asked about each answer.
	check func(connection, i int, answer *http.Response) error
	// body is asked about each answer that has the status, and gets what is in it.
	body func(connection int, status string, text []byte) error
	// before is called when all connections are open and have been answered once, and after when
	// all requests are answered.
	before, after func()
}

// timing is what a load saw.
type timing struct {
	took      time.Duration
	latencies []float64 // µs, sorted
}

func (l *load) requests() float64 { return float64(l.connections * l.each) }

// run runs it once.
func (l *load) run() (timing, error) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	latencies := make([]float64, l.connections*l.each)
	failed := make(chan error, l.connections)
	for c := range l.connections {
		ready.Add(1)
		done.Go(func() {
			var w *wire
			var err error
			if w, err = dial(l.addr); err == nil {
				defer w.Close()
				err = l.one(w, c, 0)
			}
			ready.Done()
			<-start
			for i := 0; i < l.each && err == nil; i++ {
				at := time.Now()
				err = l.one(w, c, i)
				latencies[c*l.each+i] = float64(time.Since(at).Nanoseconds()) / 1000
			}
			if err != nil {
				failed <- err
			}
		})
	}
	ready.Wait()
	if l.before != nil {
		l.before()
	}
	at := time.Now()
	close(start)
	done.Wait()
	t := timing{took: time.Since(at), latencies: latencies}
	if l.after != nil {
		l.after()
	}
	slices.Sort(t.latencies)
	select {
	case err := <-failed:
		return t, err
	default:
		return t, nil
	}
}

func (l *load) one(w *wire, c, i int) error {
	answer, err := w.send(l.request(c, i))
	if err != nil {
		return err
	}
	if l.body != nil {
		text, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != l.status {
			err = fmt.Errorf("%s, and not %d: %s", answer.Status, l.status, text)
		}
		if err != nil {
			return err
		}
		return l.body(c, answer.Status, text)
	}
	if _, err = io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if l.check != nil {
		return l.check(c, i, answer)
	}
	if answer.StatusCode != l.status {
		return fmt.Errorf("%s, and not %d", answer.Status, l.status)
	}
	return nil
}

// wire is one connection of HTTP/1.1.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func dial(addr string) (*wire, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReaderSize(c, 4096)}, nil
}

// send sends a request and reads the head of its answer.
func (w *wire) send(request []byte) (*http.Response, error) {
	if _, err := w.Write(request); err != nil {
		return nil, err
	}
	return http.ReadResponse(w.in, nil)
}

// ask reads the answer to the end, too.
func (w *wire) ask(request []byte) (*http.Response, error) {
	answer, err := w.send(request)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer, err
}

// text writes a request. Headers are pairs of name and value.
func text(method, path, host, body string, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	for i := 0; i+1 < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	if body != "" || method == http.MethodPost {
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// loaded runs a load against a process, whose use is asked for before and after, and notes what it
// took.
func (b *bench) loaded(s *side, name string, warmUp bool, use func() rig.Usage, l *load) {
	var before, after rig.Usage
	l.before = func() { before = use() }
	l.after = func() { after = use() }
	t, err := l.run()
	if err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
	if warmUp {
		return
	}
	b.note(s, name, "cpu_us", float64((after.CPU-before.CPU).Nanoseconds())/1000/l.requests())
	b.note(s, name, "per_second", l.requests()/t.took.Seconds())
	b.note(s, name, "p50_us", percentile(t.latencies, 0.5))
	b.note(s, name, "p99_us", percentile(t.latencies, 0.99))
}

// together calls f in so many goroutines, each with its number, and returns what went wrong.
func together(n int, f func(i int) error) error {
	failed := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { failed[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

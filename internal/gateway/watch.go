package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"time"
)

// Watcher loads a tenants file again when its content has changed. A file with a fault changes
// nothing, and the log says so until it is mended: a tenant that was to be shut out is still
// served.
type Watcher struct {
	File string
	// Content is what is loaded.
	Content []byte
	// Load takes other content, or refuses it.
	Load func(content []byte) error
	Log  *slog.Logger

	last  []byte // of the last look
	fault error  // of Content
	said  time.Time
}

// Between two looks at a file, and between two lines about one that has a fault.
const (
	lookEvery   = 5 * time.Second
	remindEvery = time.Minute
)

// Run looks every five seconds, and at once when hangup tells. It returns when the context ends.
func (w *Watcher) Run(ctx context.Context, hangup <-chan os.Signal) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			w.Look(time.Now(), true)
		case <-tick.C:
			w.Look(time.Now(), false)
		}
	}
}

// Look looks once. asked says that somebody waits for an answer in the log, also where nothing has
// changed.
//
// A change is taken when it is there at two looks, or asked for.
//
// The content is compared and not the time: a ConfigMap of Kubernetes is a link to a folder that is
// replaced, and its time may go back.
func (w *Watcher) Look(now time.Time, asked bool) {
	content, err := ReadFile(w.File)
	// Whoever writes the file may be in the middle of it: a list of who may come in that ends early
	// may let others in.
	settled := asked || bytes.Equal(content, w.last)
	w.last = content
	if err == nil && settled && (asked || !bytes.Equal(content, w.Content)) {
		w.fault = w.Load(content)
		w.Content, w.said = content, time.Time{}
	}
	if err == nil { // a file that cannot be read says nothing about the one that was loaded
		err = w.fault
	}
	if err == nil {
		w.said = time.Time{}
		return
	}
	if asked || w.said.IsZero() || now.Sub(w.said) >= remindEvery {
		w.said = now
		w.Log.Error("the tenants file has a fault: the tenants stay as they were", "cause", err.Error())
	}
}

// Package jsonlog writes the log: the lines of slog.JSONHandler, to the byte. Those of which there
// are many it writes itself, in less time, and leaves all others to slog. A line is written when
// Handle returns: a process that is killed has lost none.
package jsonlog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

// Handler is a slog.Handler. It is safe for concurrent use.
type Handler struct {
	*slog.JSONHandler
	out *lines
}

// lines writes whole lines, whoever made them.
type lines struct {
	mu  sync.Mutex // guards out for one line
	out io.Writer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(line)
}

// New makes a handler for lines of at least this level.
func New(out io.Writer, level slog.Leveler) *Handler {
	l := &lines{out: out}
	return &Handler{slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level}), l}
}

// rooms are for lines. A longer one than usual leaves none behind.
var rooms = sync.Pool{New: func() any { return new(make([]byte, 0, usualLine)) }}

const usualLine = 2048

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	room := rooms.Get().(*[]byte)
	line, plain := append((*room)[:0], '{'), false
	put := func(a slog.Attr) bool {
		line, plain = appendAttr(line, a)
		return plain
	}
	// Every line of slog begins with these three, but for one without a time.
	if !r.Time.IsZero() && put(slog.Time(slog.TimeKey, r.Time)) && put(slog.String(slog.LevelKey, r.Level.String())) && put(slog.String(slog.MessageKey, r.Message)) {
		r.Attrs(put)
	}
	var err error
	if plain {
		_, err = h.out.Write(append(line, '}', '\n'))
	} else {
		err = h.JSONHandler.Handle(ctx, r)
	}
	if cap(line) <= usualLine {
		*room = line
		rooms.Put(room)
	}
	return err
}

// appendAttr adds an attribute to a line, or says that it is left to slog, as all are then.
func appendAttr(line []byte, a slog.Attr) ([]byte, bool) {
	v := a.Value
	if v.Kind() == slog.KindGroup {
		plain := true
		for _, inner := range v.Group() { // a group without a name is the attributes in it
			if line, plain = appendAttr(line, inner); !plain {
				break
			}
		}
		return line, plain && a.Key == ""
	}
	if len(line) > 1 {
		line = append(line, ',')
	}
	line, plain := appendString(line, a.Key)
	if !plain {
		return line, false
	}
	line = append(line, ':')
	switch v.Kind() {
	case slog.KindString:
		return appendString(line, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(line, v.Int64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(line, v.Bool()), true
	case slog.KindTime:
		at := v.Time()
		line = append(at.AppendFormat(append(line, '"'), time.RFC3339Nano), '"')
		return line, at.Year() >= 0 && at.Year() <= 9999
	case slog.KindAny:
		if list, is := v.Any().([]string); is && len(list) > 0 {
			between := byte('[')
			for _, text := range list {
				if line, plain = appendString(append(line, between), text); !plain {
					return line, false
				}
				between = ','
			}
			return append(line, ']'), true
		}
	}
	return line, false
}

// appendString says whether slog writes the text as it is.
func appendString(line []byte, s string) ([]byte, bool) {
	for _, c := range []byte(s) {
		if !asItIs[c] {
			return line, false
		}
	}
	return append(append(append(line, '"'), s...), '"'), true
}

// asItIs :: byte → whether it stands for itself
var asItIs = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

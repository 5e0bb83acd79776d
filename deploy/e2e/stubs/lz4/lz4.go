// Package lz4 refuses what a collector of OpenTelemetry would read and write in this format. The
// sidecar and Traefik send none.
package lz4

import (
	"errors"
	"io"
)

var errNone = errors.New("lz4: this program is built without it")

// Option would be a setting.
type Option struct{}

// ConcurrencyOption would be how many goroutines compress.
func ConcurrencyOption(int) Option { return Option{} }

// Reader refuses.
type Reader struct{}

// NewReader returns one.
func NewReader(io.Reader) *Reader { return &Reader{} }

func (*Reader) Read([]byte) (int, error) { return 0, errNone }

// Writer refuses.
type Writer struct{}

// NewWriter returns one.
func NewWriter(io.Writer) *Writer { return &Writer{} }

// Apply takes settings.
func (*Writer) Apply(...Option) error { return nil }

// Reset begins anew.
func (*Writer) Reset(io.Writer) {}

func (*Writer) Write([]byte) (int, error) { return 0, errNone }

// Close ends.
func (*Writer) Close() error { return nil }

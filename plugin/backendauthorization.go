//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// backendSecret is the Authorization header that the MCP server gets (label backendAuthorization).
type backendSecret struct {
	variable string
	file     string

	mu     sync.Mutex
	value  string
	err    error
	readAt int64 // Unix seconds
}

const (
	backendSuffix = "BACKEND_AUTHORIZATION"
	secretReuse   = 20 // seconds for which a value is not read again
)

// parseBackendAuthorization reads the label. It takes only names that end in backendSuffix.
// Otherwise whoever can set the labels of one container could have any variable and any file of
// Traefik sent to it.
func parseBackendAuthorization(label string) (*backendSecret, error) {
	label = strings.TrimSpace(label)
	if label == "" {
		return nil, nil
	}
	kind, name, _ := strings.Cut(label, ":")
	if kind != "env" && kind != "file" {
		return nil, errors.New("label backendAuthorization: give env:NAME or file:/path; Traefik shows labels in its dashboard and its API, so the value itself must not stand in one")
	}
	if !strings.HasSuffix(strings.ToUpper(name), backendSuffix) {
		return nil, fmt.Errorf("label backendAuthorization: %q must end in %s (for a file also in small letters), so that a label cannot have other secrets of Traefik sent to a server", name, backendSuffix)
	}
	if kind == "env" {
		return &backendSecret{variable: name}, nil
	}
	if !strings.HasPrefix(name, "/") {
		return nil, fmt.Errorf("label backendAuthorization: file %q: give the whole path", name)
	}
	return &backendSecret{file: name}, nil
}

// header returns the value at a time in Unix seconds. The value is read again after secretReuse
// seconds, so that a new one needs no restart. A failure is remembered for a second.
func (s *backendSecret) header(at int64) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := at - s.readAt
	if s.value != "" && age >= 0 && age < secretReuse || s.err != nil && age == 0 {
		return s.value, s.err
	}
	s.readAt = at
	s.value = ""
	text := variable(s.variable)
	var err error
	if s.file != "" {
		text, err = readStart(s.file)
	}
	text = strings.TrimSpace(text)
	if err == nil && (text == "" || strings.Trim(text, printable) != "") {
		err = errors.New("the value is empty or not printable ASCII in one line")
	}
	s.err = nil
	if err != nil {
		s.err = fmt.Errorf("label backendAuthorization: %s%s: %v; the MCP server gets no request without it", s.variable, s.file, err)
		return "", s.err
	}
	s.value = text
	return text, nil
}

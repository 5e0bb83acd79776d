// Go: <nil>
// Yaegi: feature not supported

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
)

type counting struct {
	http.ResponseWriter
	bytes int
}

func (c *counting) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

func serve(rw http.ResponseWriter) error { return http.NewResponseController(rw).Flush() }

func main() { fmt.Println(serve(&counting{ResponseWriter: httptest.NewRecorder()})) }

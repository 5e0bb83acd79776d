// Prints: <nil>

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
)

func serve(rw http.ResponseWriter) error { return http.NewResponseController(rw).Flush() }

func main() { fmt.Println(serve(httptest.NewRecorder())) }

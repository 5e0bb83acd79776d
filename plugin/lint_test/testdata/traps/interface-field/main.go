// Go: 204 <nil>
// Yaegi: fails: reflect.Set: value of type *struct {} is not assignable to type http.RoundTripper

package main

import (
	"fmt"
	"net/http"
)

type canned struct{}

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

func main() {
	client := &http.Client{Transport: &canned{}}
	resp, err := client.Get("http://x.test/")
	fmt.Println(resp.StatusCode, err)
}

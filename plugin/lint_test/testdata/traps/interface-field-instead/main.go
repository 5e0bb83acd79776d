// Prints: 204 <nil>

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
	var transport http.RoundTripper = &canned{}
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://x.test/")
	fmt.Println(resp.StatusCode, err)
}

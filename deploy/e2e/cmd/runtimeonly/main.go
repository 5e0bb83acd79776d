// runtimeonly asks Lambda's Runtime API for work with three system calls: what BenchmarkLambda
// shows of Go itself, without net/http and aws-lambda-go.
package main

import (
	"os"
	"syscall"
)

func main() {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API") // 127.0.0.1:PORT
	port := 0
	for _, digit := range api[len("127.0.0.1:"):] {
		port = 10*port + int(digit-'0')
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		_, err = syscall.Write(fd, []byte("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: "+api+"\r\n\r\n"))
	}
	if err == nil {
		_, err = syscall.Read(fd, make([]byte, 1))
	}
	if err != nil {
		panic(err)
	}
}

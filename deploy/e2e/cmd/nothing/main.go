// nothing is the least that a Go program on AWS Lambda can be: what BenchmarkLambda compares the
// sidecar with, since how long a program takes to start says more of the machine than of the
// program.
package main

import "github.com/aws/aws-lambda-go/lambda"

func main() {
	lambda.Start(func() (map[string]int, error) { return map[string]int{"statusCode": 403}, nil })
}

// Prints: <nil>

package main

import (
	"context"
	"fmt"
)

var mine, theirs = new(int), new(int)

func main() {
	ctx := context.WithValue(context.Background(), theirs, "eve")
	fmt.Println(ctx.Value(mine))
}

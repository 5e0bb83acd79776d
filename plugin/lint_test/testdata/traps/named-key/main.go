// Go: <nil>
// Yaegi: eve

package main

import (
	"context"
	"fmt"
)

type mine string

type theirs string

func main() {
	ctx := context.WithValue(context.Background(), theirs("user"), "eve")
	fmt.Println(ctx.Value(mine("user")))
}

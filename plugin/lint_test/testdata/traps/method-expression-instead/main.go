// Prints: 100

package main

import "fmt"

type price struct{ cents int }

func (p price) get() int { return p.cents }

func main() {
	get := func(p price) int { return p.get() }
	fmt.Println(get(price{100}))
}

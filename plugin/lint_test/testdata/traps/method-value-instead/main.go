// Prints: 100

package main

import "fmt"

type price struct{ cents int }

func (p price) get() int { return p.cents }

func main() {
	p := price{100}
	then := p
	get := func() int { return then.get() }
	p.cents = 999
	fmt.Println(get())
}

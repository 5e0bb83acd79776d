// Go: 100
// Yaegi: 999

package main

import "fmt"

type price struct{ cents int }

func (p price) get() int { return p.cents }

func main() {
	p := price{100}
	get := p.get
	p.cents = 999
	fmt.Println(get())
}

// Go: 100
// Yaegi: fails: reflect.Set: value of type func() int is not assignable to type func(

package main

import "fmt"

type price struct{ cents int }

func (p price) get() int { return p.cents }

func main() {
	get := price.get
	fmt.Println(get(price{100}))
}

// Go: false
// Yaegi: true

package main

import "fmt"

type cat struct{ name string }

type dog struct{ name string }

func main() {
	var pet any = dog{"rex"}
	_, isCat := pet.(cat)
	fmt.Println(isCat)
}

// Prints: true

package main

import "fmt"

type named interface{ name() string }

type dog struct{ called string }

func (d *dog) name() string { return d.called }

func main() {
	rex := &dog{"rex"}
	var one, other named = rex, rex
	fmt.Println(one.name() == other.name())
}

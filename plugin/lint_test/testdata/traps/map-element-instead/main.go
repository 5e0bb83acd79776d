// Prints: 36 <nil>

package main

import (
	"fmt"
	"strconv"
)

func main() {
	ages := map[string]int{}
	age, err := strconv.Atoi("36")
	ages["ada"] = age
	fmt.Println(ages["ada"], err)
}

// Go: 36 <nil>
// Yaegi: 0 <nil>

package main

import (
	"fmt"
	"strconv"
)

func main() {
	ages := map[string]int{}
	var err error
	ages["ada"], err = strconv.Atoi("36")
	fmt.Println(ages["ada"], err)
}

// Prints:

package main

func end() {}

func main() {
	end()
	return
}

// Go:
// Yaegi: for the log

package main

func main() { println("for the log") }

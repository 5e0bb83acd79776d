package other

// Level is changed by Raise.
var Level = 1

// Raise raises it.
func Raise() { Level = 2 }

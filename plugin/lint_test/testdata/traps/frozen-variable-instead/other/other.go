package other

var level = 1

// Level is what Raise changes.
func Level() int { return level }

// Raise raises it.
func Raise() { level = 2 }

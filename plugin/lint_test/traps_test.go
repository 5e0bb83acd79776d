package lint_test

// trap is something that Yaegi v0.16.1 runs as something else than Go, or ends with a panic at run
// time, where no compiler warns.
type trap struct {
	// The folder testdata/traps/NAME has a program that shows it; NAME-instead has one that Go and
	// Yaegi run alike.
	name string
	// What Yaegi does with it.
	yaegi string
	// What to write in its place.
	instead string
}

// traps are what the plugin must not contain. Their programs run natively and in Yaegi in
// deploy/e2e (TestTrapsOfYaegi), so a new Yaegi that no longer falls into one is noticed.
var traps = []trap{
	{
		name:    "tuple-assignment",
		yaegi:   "a tuple assignment with a call on the right loses a value",
		instead: "one assignment a line",
	},
	{
		name:    "tuple-nil",
		yaegi:   "a tuple assignment with nil on the right panics",
		instead: "one assignment a line",
	},
	{
		name: "named-result",
		yaegi: "results with names are set one after the other by return, so an expression sees those " +
			"that stand before it changed, and a struct that is made of its own result empty",
		instead: "results without names, or a return of variables of their own",
	},
	{
		name:    "interface-equality",
		yaegi:   "two interface values of a type of our own are never equal, or comparing them panics",
		instead: "compare what they say of themselves; pointers",
	},
	{
		name:    "constant-division",
		yaegi:   "a division of whole constants is not whole where a float64 is wanted",
		instead: "a variable of type int first, or the number",
	},
	{
		name:    "map-element",
		yaegi:   "a multi-value assignment stores nothing in a map element",
		instead: "assign to a variable, then store that",
	},
	{
		name: "json-unexported",
		yaegi: "JSON writes unexported fields and fills them, under their name with an X in " +
			"front",
		instead: "keep what is not JSON in a struct around it",
	},
	{
		name:    "json-embedded",
		yaegi:   "JSON neither reads nor writes the fields of an embedded struct in their place",
		instead: "name the fields in the struct itself",
	},
	{
		name:    "package-variable",
		yaegi:   "a package variable that depends on a later one through a function sees it empty",
		instead: "declare what it depends on above it, in the same file",
	},
	{
		name: "late-argument",
		yaegi: "defer and go evaluate arguments and receiver when the call runs, not where they " +
			"stand",
		instead: "copy what changes afterwards into a variable of its own",
	},
	{
		name:    "method-value",
		yaegi:   "a method value sees what happens to its receiver later",
		instead: "a closure over a copy, or a method of a pointer that is never assigned again",
	},
	{
		name:    "method-expression",
		yaegi:   "a method expression (T.Method) panics when it is called",
		instead: "a function",
	},
	{
		name: "error-type",
		yaegi: "errors of types of our own: a nil pointer is a nil error, == panics, errors.As " +
			"panics",
		instead: "a sentinel of errors.New, wrapped by fmt.Errorf with %w",
	},
	{
		name:    "errors-as",
		yaegi:   "errors.As panics",
		instead: "errors.Is with a sentinel",
	},
	{
		name: "panic-error",
		yaegi: "an error that was given to panic is no error when it is recovered, nor is an " +
			"index out of range",
		instead: "panic with a string; take any recovered value as it is",
	},
	{
		name:    "uncalled-method",
		yaegi:   "encoding/json, errors and log/slog do not call this method of a type of our own",
		instead: "json.RawMessage and a second step; %w; text that is made before it is logged",
	},
	{
		name: "unseen-string",
		yaegi: "fmt and log/slog do not call String of what lies in a slice, map or struct, and " +
			"print a secret",
		instead: "a function that is called where the text is made",
	},
	{
		name: "named-key",
		yaegi: "named types of one underlying type are one type, also as keys of contexts and of " +
			"map[any]",
		instead: "the address of a package variable that nobody else has, new(int)",
	},
	{
		name:    "type-assertion",
		yaegi:   "an assertion to a type of our own is true of every type of the same shape",
		instead: "an interface method, or a field that tells the kinds apart",
	},
	{
		name: "type-switch",
		yaegi: "a type switch takes types of the same shape for one and passes over []any and " +
			"map[string]any",
		instead: "one assertion each, v, is := x.([]any)",
	},
	{
		name:    "case-list",
		yaegi:   "of several expressions in a case only the first counts",
		instead: "||, or a case each",
	},
	{
		name:    "label",
		yaegi:   "a branch to a label out of a select never leaves the loop",
		instead: "a function, and return",
	},
	{
		name:    "returned-receive",
		yaegi:   "return <-channel panics",
		instead: "assign, then return",
	},
	{
		name: "captured-in-loop",
		yaegi: "a loop has one variable for all its rounds, which closures, go and defer see at " +
			"its end",
		instead: "give it to a function that makes the closure",
	},
	{
		name:    "string-position",
		yaegi:   "the position in a range over a string is wrong behind a byte that is not UTF-8",
		instead: "utf8.DecodeRuneInString, or no position",
	},
	{
		name:    "range-over-number",
		yaegi:   "ranging over a number does not load",
		instead: "for i := 0; i < n; i++",
	},
	{
		name:    "builtin",
		yaegi:   "min, max and clear do not load",
		instead: "an if, a loop",
	},
	{
		name: "generics",
		yaegi: "generic types and functions do not load, or not as they should, atomic.Pointer " +
			"among them",
		instead: "functions for the type at hand; atomic.Value",
	},
	{
		name: "unnamed-parameter",
		yaegi: "an argument of a parameter without a name is put where the first local value belongs, " +
			"and panics when it is of another type",
		instead: "the name _",
	},
	{
		name: "interface-field",
		yaegi: "a value of a type of our own in an interface field of a struct literal of the " +
			"standard library panics",
		instead: "assign it to a variable of the interface type first",
	},
	{
		name: "embedded-interface",
		yaegi: "a type with an embedded interface of the standard library has that interface's " +
			"methods only: no Flusher, no stream",
		instead: "hand on the ResponseWriter as it came",
	},
	{
		name:    "exit",
		yaegi:   "os.Exit and log.Fatal are panics that a recover swallows",
		instead: "return an error",
	},
	{
		name:    "print",
		yaegi:   "println goes to standard output",
		instead: "the log, or fmt.Fprintln(os.Stderr)",
	},
	{
		name: "import",
		yaegi: "a package that Yaegi lacks, or has without what one would import it for, or " +
			"whose work is wrong with types of our own",
		instead: "what the plugin imports already",
	},
	{
		name:    "frozen-variable",
		yaegi:   "an exported variable that is changed keeps its first value for other packages",
		instead: "a function that returns it",
	},
	{
		name: "build-line",
		yaegi: "build lines are ignored; without go1.21 the compiler treats loops otherwise than " +
			"Yaegi does",
		instead: "//go:build go1.21 as the first line, and no other",
	},
}

package pages

import (
	"bytes"
	"fmt"
	"html/template"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// everything is a template with each thing that is prepared, in each place where a value may stand.
const everything = `{{define "head"}}<html><style>{{.Style}}</style>{{if .Logo}}<img src="{{.Logo}}">{{end}}{{end}}
{{define "page"}}{{template "head" .}}<meta http-equiv="refresh" content="0;url={{.Next}}"><title>{{.Title}}</title>
<h1>{{.Title}}</h1>{{if .Yes}}<p>yes</p>{{else if .HTML}}<ul>{{.HTML}}</ul>{{else}}no{{end}}
{{if or .Yes .Missing .Title}}<form action="{{.Action}}"><input value="{{.Title}}">{{end}}{{if not .Yes}}not{{end}}
{{if .List}}{{range .List}}<li title="{{.}}">{{.}}</li>{{end}}{{end}}<a href="{{.Next}}">{{.Title}}</a>{{end}}`

// texts are what people and clients could write. None of them may end its place in the page.
var texts = []string{
	"", "plain", `"quoted" & 'quoted'`, "</title></style><script>alert(1)</script>", "a+b=c", "Müller “x”", "\x00\x01\x7f", "\xff\xfe<", "\u2028\uFDD0\uFFFE😀",
	"https://example.com/a?b=c&d=%2Fe+f#g", "http://localhost:1/x", "https://example.com/ä'()<>\"%zz%4", "https://x.example/%", "HTTPS://EXAMPLE.COM", "javascript:alert(1)",
	"java\nscript:alert(1)", " javascript:alert(1)", " https://example.com", "\x01https://example.com", "http\u017f://example.com", "MA\u0130LTO:a", "data:image/png;base64,AAA+/=", "mailto:a@example.com", "//example.com/x", "/path", "x:y", "com.example.app:/back?code=1&state=a+b", "#a", "{{.Title}}", "-->", "<!--",
}

// vouched is a value as html/template knows it.
func vouched(value any) any {
	switch v := value.(type) {
	case HTML:
		return template.HTML(v)
	case URL:
		return template.URL(v)
	case CSS:
		return template.CSS(v)
	}
	return value
}

// compare writes a page in both ways, and says whether package pages writes it.
func compare(t *testing.T, steps []step, twin *template.Template, name string, data map[string]any) bool {
	t.Helper()
	var got, want bytes.Buffer
	got.WriteString("before")
	want.WriteString("before")
	if run(steps, &got, data, nil) != nil {
		return false
	}
	known := map[string]any{}
	for name, value := range data {
		known[name] = vouched(value)
	}
	if err := twin.ExecuteTemplate(&want, name, known); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Fatalf("%s: data %q\ngot  %q\nwant %q", name, fmt.Sprint(data), got.String(), want.String())
	}
	return true
}

func parsed(text string) ([]step, *template.Template) {
	twin := template.Must(template.New("pages").Parse(text))
	return prepared(twin, "page"), twin
}

// maker makes values, the same at each run.
func maker() (random *rand.Rand, text func() string, value func() any) {
	random = rand.New(rand.NewPCG(1, 2))
	text = func() string {
		a := texts[random.IntN(len(texts))]
		switch random.IntN(4) {
		case 0:
			a += texts[random.IntN(len(texts))]
		case 1:
			a += string([]byte{byte(random.IntN(256))})
		}
		return a
	}
	value = func() any {
		switch random.IntN(12) {
		case 0:
			return HTML(text())
		case 1:
			return CSS(text())
		case 2, 3:
			return URL(text())
		case 4:
			return random.IntN(2) == 0
		case 5:
			return random.IntN(3)
		case 6:
			return []string{text(), text()}
		case 7:
			return nil
		}
		return text()
	}
	return random, text, value
}

// Whatever the values are, a page has the bytes that html/template writes.
func TestPagesAreThoseOfHTMLTemplate(t *testing.T) {
	steps, twin := parsed(everything)
	if steps == nil {
		t.Fatal("html/template escapes in a way that is not known here")
	}
	random, text, value := maker()
	likely := map[string]func() any{
		"Style": func() any { return CSS("p { color: #123; }") }, "Logo": func() any { return URL("data:image/png;base64,AA+/") },
		"Next": func() any { return URL(text()) }, "Title": func() any { return text() }, "Yes": func() any { return random.IntN(2) == 0 },
		"HTML": func() any { return HTML("<li>x</li>") }, "Action": func() any { return text() }, "List": func() any { return []string{text(), text()} },
	}
	const pages = 20_000
	written := 0
	for range pages {
		data := map[string]any{}
		for name, v := range likely {
			switch random.IntN(10) {
			case 0: // missing
			case 1:
				if data[name] = value(); name == "List" { // html/template fails at what is no list
					delete(data, name)
				}
			default:
				data[name] = v()
			}
		}
		if compare(t, steps, twin, "page", data) {
			written++
		}
	}
	if written < pages*2/3 {
		t.Errorf("%d pages of %d are written", written, pages)
	}
}

var names = []string{"consent", "continue", "error"}

func ownTemplates(t testing.TB) *template.Template {
	t.Helper()
	source, err := os.ReadFile("../../pages.html")
	if err != nil {
		t.Fatal(err)
	}
	return template.Must(template.New("pages").Parse(string(source)))
}

// membersOf are the members of the data that a page asks for.
func membersOf(steps []step) (all []string) {
	for _, s := range steps {
		var asked []operand
		switch {
		case s.value != nil:
			asked = []operand{*s.value}
		case s.choice != nil:
			asked = s.choice.of
			all = append(append(all, membersOf(s.choice.yes)...), membersOf(s.choice.no)...)
		case s.each != nil:
			asked = []operand{*s.each}
			all = append(all, membersOf(s.body)...)
		}
		for _, o := range asked {
			all = append(all, o.name)
		}
	}
	slices.Sort(all)
	isElement := func(name string) bool { return name == "" }
	return slices.DeleteFunc(slices.Compact(all), isElement)
}

// asGiven is a text as the type that a member has in our pages.
func asGiven(member, text string) any {
	switch member {
	case "Style":
		return CSS(text)
	case "Logo", "Next":
		return URL(text)
	case "Rights":
		return HTML(text)
	case "ActsWith":
		return strings.SplitAfter(text, "e")
	case "Acts", "Choice", "Loopback", "Private", "Stay":
		return len(text)%2 == 0
	}
	return text
}

// The pages that the program has are written as html/template writes issuer/pages.html.
func TestOwnPagesAreThoseOfHTMLTemplate(t *testing.T) {
	twin := ownTemplates(t)
	random, text, value := maker()
	const rounds = 5_000
	for _, name := range names {
		steps := stepsOf(name)
		members, written := membersOf(steps), 0
		for range rounds {
			data := map[string]any{}
			for _, member := range members {
				switch data[member] = asGiven(member, text()); {
				case random.IntN(10) == 0:
					delete(data, member)
				case random.IntN(100) == 0 && member != "ActsWith": // as List above
					data[member] = value()
				}
			}
			if compare(t, steps, twin, name, data) {
				written++
			}
		}
		if written < rounds/2 {
			t.Errorf("%s: %d pages of %d are written", name, written, rounds)
		}
	}
}

func FuzzPages(f *testing.F) {
	for _, text := range texts {
		f.Add(text, text, text)
	}
	steps, twin := parsed(everything)
	own := ownTemplates(f)
	f.Fuzz(func(t *testing.T, title, action, next string) {
		for _, name := range names {
			data := map[string]any{}
			for i, member := range membersOf(stepsOf(name)) {
				data[member] = asGiven(member, []string{title, action, next}[i%3])
			}
			if !compare(t, stepsOf(name), own, name, data) {
				t.Errorf("%s is not written", name)
			}
		}
		if !compare(t, steps, twin, "page", map[string]any{
			"Style": CSS("p { color: #123; }"), "Title": title, "Action": action, "Next": URL(next), "Logo": action, "List": []string{title, next},
		}) {
			t.Error("the page is not written")
		}
	})
}

// What html/template is not known to do cannot be put into a page.
func TestTemplatesThatAreNotKnownAreRefused(t *testing.T) {
	for _, text := range []string{
		`<script>var x = {{.Title}}</script>`, `<a onclick="f({{.Title}})">`, `<a href="/x?y={{.Title}}">`, `<p style="color: {{.Title}}">`, `<p title={{.Title}}>`,
		`{{$x := .Title}}{{$x}}`, `{{.Title | printf "%q"}}`, `{{with .Title}}{{.}}{{end}}`, `{{len .Title}}`, `{{if and .Title .Yes}}x{{end}}`, `{{if eq .Title "x"}}x{{end}}`,
		`{{range .List}}{{.}}{{else}}none{{end}}`, `{{range $i, $x := .List}}{{$x}}{{end}}`, `{{template "other" .Title}}`, `{{if .Map.Title}}{{.Map.Title}}{{end}}`, `{{range .List}}{{.}}{{break}}{{end}}`,
	} {
		if steps, _ := parsed(`{{define "other"}}<b>{{.}}</b>{{end}}{{define "page"}}` + text + `{{end}}`); steps != nil {
			t.Errorf("known: %s", text)
		}
	}
}

// A value of a type that is not known in its place is an error, and never a guess.
func TestPagesRefuseValuesThatTheyDoNotKnow(t *testing.T) {
	for member, value := range map[string]any{
		"Style": "p {}", "Logo": 1, "Next": HTML("x"), "Title": HTML("<b>"), "Yes": 1, "HTML": []string{"x"}, "Action": true, "List": "x",
	} {
		steps, _ := parsed(everything)
		data := map[string]any{"Title": "x"} // with it every other member is written
		data[member] = value
		err := run(steps, &bytes.Buffer{}, data, nil)
		if err == nil || !strings.Contains(err.Error(), strconv.Quote(member)) {
			t.Errorf("%s: %v", member, err)
		}
	}
	if err := Execute(&bytes.Buffer{}, "none", nil); err == nil {
		t.Error("a page that is not there is written")
	}
}

// usual is what most pages hold.
var usual = map[string]any{
	"Style": CSS("p {}"), "Logo": URL("data:image/png;base64,AA+/"), "Title": "Claude's “Code”", "Yes": false, "HTML": HTML("<li>x</li>"),
	"Action": "https://mcp.example.com/oauth/consent", "Next": URL("https://id.example.com/auth?a=b&c=%20d"), "List": []string{"a", "<b>"},
}

// html/template makes more than a hundred allocations for this page.
func TestUsualPageIsWrittenWithoutHTMLTemplate(t *testing.T) {
	steps, _ := parsed(everything)
	var out bytes.Buffer
	allocations := testing.AllocsPerRun(100, func() {
		out.Reset()
		if err := run(steps, &out, usual, nil); err != nil {
			t.Error(err)
		}
	})
	if allocations > 10 {
		t.Errorf("%v allocations", allocations)
	}
}

func BenchmarkPage(b *testing.B) {
	steps, twin := parsed(everything)
	var out bytes.Buffer
	b.Run("prepared", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			run(steps, &out, usual, nil)
		}
	})
	known := map[string]any{}
	for name, value := range usual {
		known[name] = vouched(value)
	}
	b.Run("html template", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			twin.ExecuteTemplate(&out, "page", known)
		}
	})
}

package pages

import (
	"bytes"
	"fmt"
	"html/template"
	"math/rand/v2"
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
	"java\nscript:alert(1)", "data:image/png;base64,AAA+/=", "mailto:a@example.com", "//example.com/x", "/path", "x:y", "com.example.app:/back?code=1&state=a+b", "#a", "{{.Title}}", "-->", "<!--",
}

// compare writes a page in both ways.
func compare(t *testing.T, s *Set, twin *template.Template, data map[string]any) {
	t.Helper()
	var got, want bytes.Buffer
	got.WriteString("before")
	want.WriteString("before")
	if err := s.Execute(&got, "page", data); err != nil {
		t.Fatal(err)
	}
	if err := twin.ExecuteTemplate(&want, "page", data); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Fatalf("data %q\ngot  %q\nwant %q", fmt.Sprint(data), got.String(), want.String())
	}
}

func parsed(t testing.TB, text string) (*Set, *template.Template) {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s, template.Must(template.New("pages").Parse(text))
}

// Whatever the values are, a page has the bytes that html/template writes.
func TestPagesAreThoseOfHTMLTemplate(t *testing.T) {
	s, twin := parsed(t, everything)
	if !s.Prepared("page") {
		t.Fatal("the page is not prepared: html/template escapes in a way that is not known here")
	}
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		a := texts[random.IntN(len(texts))]
		switch random.IntN(4) {
		case 0:
			a += texts[random.IntN(len(texts))]
		case 1:
			a += string([]byte{byte(random.IntN(256))})
		}
		return a
	}
	value := func() any {
		switch random.IntN(12) {
		case 0:
			return template.HTML(text())
		case 1:
			return template.CSS(text())
		case 2, 3:
			return template.URL(text())
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
	likely := map[string]func() any{
		"Style": func() any { return template.CSS("p { color: #123; }") }, "Logo": func() any { return template.URL("data:image/png;base64,AA+/") },
		"Next": func() any { return template.URL(text()) }, "Title": func() any { return text() }, "Yes": func() any { return random.IntN(2) == 0 },
		"HTML": func() any { return template.HTML("<li>x</li>") }, "Action": func() any { return text() }, "List": func() any { return []string{text(), text()} },
	}
	for range 20_000 {
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
		compare(t, s, twin, data)
	}
}

func FuzzPages(f *testing.F) {
	for _, text := range texts {
		f.Add(text, text, text)
	}
	s, twin := parsed(f, everything)
	f.Fuzz(func(t *testing.T, title, action, next string) {
		compare(t, s, twin, map[string]any{
			"Style": template.CSS("p { color: #123; }"), "Title": title, "Action": action, "Next": template.URL(next), "Logo": action, "List": []string{title, next},
		})
	})
}

// What html/template is not known to do is left to it, and so is a page that is not there.
func TestUnknownTemplatesAreLeftToHTMLTemplate(t *testing.T) {
	for _, text := range []string{
		`<script>var x = {{.Title}}</script>`, `<a onclick="f({{.Title}})">`, `<a href="/x?y={{.Title}}">`, `<p style="color: {{.Title}}">`, `<p title={{.Title}}>`,
		`{{$x := .Title}}{{$x}}`, `{{.Title | printf "%q"}}`, `{{with .Title}}{{.}}{{end}}`, `{{len .Title}}`, `{{if and .Title .Yes}}x{{end}}`, `{{if eq .Title "x"}}x{{end}}`,
		`{{range .List}}{{.}}{{else}}none{{end}}`, `{{range $i, $x := .List}}{{$x}}{{end}}`, `{{template "other" .Title}}`, `{{if .Map.Title}}{{.Map.Title}}{{end}}`, `{{range .List}}{{.}}{{break}}{{end}}`,
	} {
		text = `{{define "other"}}<b>{{.}}</b>{{end}}{{define "page"}}` + text + `{{end}}`
		s, twin := parsed(t, text)
		if s.Prepared("page") {
			t.Errorf("prepared: %s", text)
		}
		compare(t, s, twin, map[string]any{"Title": `a"<b>&`, "Yes": true, "List": []string{"x", "<y>"}, "Map": map[string]any{"Title": "<m>"}})
	}
	s, _ := parsed(t, everything)
	if err := s.Execute(&bytes.Buffer{}, "none", nil); err == nil || s.Prepared("none") {
		t.Error("a page that is not there is written")
	}
}

// usual is what most pages hold.
var usual = map[string]any{
	"Style": template.CSS("p {}"), "Logo": template.URL("data:image/png;base64,AA+/"), "Title": "Claude's “Code”", "Yes": false, "HTML": template.HTML("<li>x</li>"),
	"Action": "https://mcp.example.com/oauth/consent", "Next": template.URL("https://id.example.com/auth?a=b&c=%20d"), "List": []string{"a", "<b>"},
}

// html/template makes more than a hundred allocations for this page.
func TestUsualPageIsWrittenWithoutHTMLTemplate(t *testing.T) {
	s, _ := parsed(t, everything)
	var out bytes.Buffer
	allocations := testing.AllocsPerRun(100, func() {
		out.Reset()
		if err := s.Execute(&out, "page", usual); err != nil {
			t.Error(err)
		}
	})
	if allocations > 10 {
		t.Errorf("%v allocations", allocations)
	}
}

func BenchmarkPage(b *testing.B) {
	s, twin := parsed(b, everything)
	var out bytes.Buffer
	b.Run("prepared", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			s.Execute(&out, "page", usual)
		}
	})
	b.Run("html template", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			twin.ExecuteTemplate(&out, "page", usual)
		}
	})
}

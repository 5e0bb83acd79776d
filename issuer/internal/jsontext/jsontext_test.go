package jsontext

import (
	"encoding/json"
	"testing"
	"testing/quick"
)

type members struct {
	Text    string   `json:"text"`
	List    []string `json:"list"`
	Number  int64    `json:"number"`
	Yes     bool     `json:"yes"`
	Members struct {
		Text string `json:"text"`
	} `json:"members"`
}

func (m members) object() []byte {
	return Object{}.String("text", m.Text).Strings("list", m.List).Int("number", m.Number).Bool("yes", m.Yes).
		Object("members", Object{}.String("text", m.Members.Text)).End()
}

func (m members) check(t *testing.T) {
	t.Helper()
	want, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.object(); string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whatever stands in a text, a client's name as well as a scope, is written as encoding/json does.
func TestObjectsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	texts := []string{"", "plain", `"quoted\"`, "<script>&", "Müller", "\u2028\u2029", "\x00\x1f\x7f", "\xff\xfe", "tab\tand\nline", "😀"}
	for c := range 256 {
		texts = append(texts, "a"+string([]byte{byte(c)})+"z")
	}
	for _, text := range texts {
		m := members{Text: text, List: []string{text, "and", text}}
		m.Members.Text = text
		m.check(t)
	}
	members{}.check(t)
	members{List: []string{}}.check(t)
	random := func(m members) bool { m.check(t); return !t.Failed() }
	if err := quick.Check(random, nil); err != nil {
		t.Error(err)
	}
	if got := string(Object{}.End()); got != "{}" {
		t.Errorf("an object without members is %s", got)
	}
}

//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// readLabels is the one place that says what a value means, whatever type Traefik's provider gave
// it. Its errors name the label, and never hold the value of one that may be a secret.
//
// What arrives (docs/labels.md): labels give text, and lists for keys with an index; key-value
// stores join those with commas. Files give text for all but lists and tables, after YAML or TOML
// has read numbers and booleans. Kubernetes gives what JSON has.
func readLabels(c *Config) (*labelTexts, error) {
	if len(c.Extra) > 0 {
		return nil, unknownLabel(c.Extra)
	}
	l := &labelTexts{}
	err := readFields(c, labelFields, l)
	return l, err
}

// readFields reads some labels into l.
func readFields(c *Config, fields []labelField, l *labelTexts) error {
	r := &labelReader{}
	values := reflect.ValueOf(c).Elem()
	texts := reflect.ValueOf(l).Elem()
	for _, f := range fields {
		value := values.Field(f.from).Interface()
		if value == nil {
			continue
		}
		if f.into < 0 { // a label that nobody reads must not be passed over
			r.refuse(f.label, "labelTexts has no field of this name")
			continue
		}
		texts.Field(f.into).SetString(r.read(f.label, f.form, value))
	}
	return r.err
}

// labelField is a label: its tags, and where its fields stand in Config and in labelTexts.
type labelField struct {
	label, form string
	from, into  int
}

// labelFields is made once: reflection is slow in Yaegi, and each middleware is made again at each
// reload of Traefik's configuration.
var labelFields = fieldsOfLabels()

func fieldsOfLabels() []labelField {
	// :: name → index in labelTexts
	into := map[string]int{}
	texts := reflect.TypeOf(labelTexts{})
	for i := 0; i < texts.NumField(); i++ {
		into[texts.Field(i).Name] = i
	}
	list := []labelField{}
	config := reflect.TypeOf(Config{})
	for i := 0; i < config.NumField(); i++ {
		field := config.Field(i)
		label := field.Tag.Get("json")
		if label == "-" {
			continue
		}
		at, ok := into[field.Name]
		if !ok {
			at = -1
		}
		list = append(list, labelField{label, field.Tag.Get("form"), i, at})
	}
	return list
}

// separatorsOf are the forms of lists, as the tag form of Config names them.
var separatorsOf = map[string]string{
	"list by spaces":           bySpaces,
	"list by commas or spaces": byCommasOrSpaces,
	"list by commas":           byCommas,
	"list by semicolons":       bySemicolons,
	"list by semicolons or &":  bySemicolonsOrAnd,
}

// read reads a value in the form that the label's tag names. A form that does not exist would make
// a label mean something else than its field says, so it is refused.
func (r *labelReader) read(label, form string, value any) string {
	word, ok := value.(string)
	if ok && (form == "" || form == "identifier") { // as nearly all are, without reflection
		return r.word(label, word, form == "identifier")
	}
	return r.readOther(label, form, value)
}

// readOther stands here so that read has few variables, as known.go explains.
func (r *labelReader) readOther(label, form string, value any) string {
	switch form {
	case "":
		return r.text(label, value)
	case "identifier":
		return r.identifier(label, value)
	case "boolean":
		return r.boolean(label, value)
	case "word or off":
		return r.wordOrOff(label, value)
	}
	separators := separatorsOf[form]
	if separators == "" {
		return r.refuse(label, "its form "+strconv.Quote(form)+" is not known")
	}
	return r.list(label, value, separators)
}

// labelReader keeps the first error.
type labelReader struct{ err error }

func (r *labelReader) refuse(label, why string) string {
	if r.err == nil {
		r.err = fmt.Errorf("label %s: %s", label, why)
	}
	return ""
}

// text is for labels where a whole number can be meant as it stands: a name, a duration, a count.
func (r *labelReader) text(label string, value any) string {
	return r.scalar(label, value, false)
}

// identifier is for labels where a number is never meant: one digit less and it names somebody
// else.
func (r *labelReader) identifier(label string, value any) string {
	return r.scalar(label, value, true)
}

func (r *labelReader) scalar(label string, value any, identifier bool) string {
	v := reflect.ValueOf(value)
	if !v.IsValid() {
		return ""
	}
	if v.Kind() == reflect.Slice && v.Len() == 1 { // ["x"] is x, and proves that x was quoted
		v = reflect.ValueOf(v.Index(0).Interface())
		if v.IsValid() && v.Kind() == reflect.String {
			return v.String()
		}
		return r.refuse(label, "give one text, and quote the value")
	}
	if v.Kind() == reflect.String {
		return r.word(label, v.String(), identifier)
	}
	number, whole := wholeNumber(v)
	switch {
	case whole && !identifier:
		return number
	case number != "":
		return r.refuse(label, changedNumber)
	case v.Kind() == reflect.Bool:
		return r.refuse(label, "a boolean cannot stand here: quote the value")
	}
	return r.refuse(label, "a list or a table cannot stand here: give one text, and quote the value")
}

// word is scalar for a text.
func (r *labelReader) word(label, text string, identifier bool) string {
	if isChangedNumber(text, identifier) {
		return r.refuse(label, changedNumber)
	}
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return text
}

// boolean takes true, false, 1 and 0, as Kubernetes writes booleans, and in any letter case.
func (r *labelReader) boolean(label string, value any) string {
	v := reflect.ValueOf(value)
	text := ""
	if v.IsValid() {
		number, _ := wholeNumber(v)
		text = number
		if v.Kind() == reflect.Bool {
			text = strconv.FormatBool(v.Bool())
		} else if number == "" {
			text = r.text(label, value)
		}
	}
	text = strings.ToLower(strings.TrimSpace(text))
	switch text {
	case "1":
		return "true"
	case "0":
		return "false"
	case "true":
		return text
	case "false":
		return text
	case "":
		return text
	}
	return r.refuse(label, "give true or false")
}

// wordOrOff is text where off is one of the words. YAML 1.1 and Kubernetes read off as false.
func (r *labelReader) wordOrOff(label string, value any) string {
	v := reflect.ValueOf(value)
	if v.IsValid() && v.Kind() == reflect.Bool && !v.Bool() {
		return "off"
	}
	return r.text(label, value)
}

// list joins the elements of a list as the label's own text has them. An element that holds a
// separator would become two: a list of rules would then hold one that nobody wrote.
func (r *labelReader) list(label string, value any, separators string) string {
	v := reflect.ValueOf(value)
	if !v.IsValid() {
		return ""
	}
	if v.Kind() == reflect.String {
		if isChangedNumber(v.String(), true) {
			return r.refuse(label, changedNumber)
		}
		return v.String()
	}
	if number, _ := wholeNumber(v); number != "" {
		return r.refuse(label, changedNumber)
	}
	if v.Kind() != reflect.Slice {
		return r.refuse(label, "give text or a list of texts, and quote each of them")
	}
	separator := separators[:1]
	parts := []string{}
	for i := 0; i < v.Len(); i++ {
		element := reflect.ValueOf(v.Index(i).Interface())
		if !element.IsValid() || element.Kind() != reflect.String {
			return r.refuse(label, fmt.Sprintf("element %d of the list is not a text: quote it", i+1))
		}
		part := strings.TrimSpace(element.String())
		if len(elementsOf(part, separators)) > 1 {
			return r.refuse(label, fmt.Sprintf("%q holds what separates the elements of this label: make it several elements", part))
		}
		parts = append(parts, part)
	}
	text := strings.Join(parts, separator)
	if text == "" { // says that nobody is meant, which a label that is not set does not
		return separator
	}
	return text
}

const changedNumber = "a number cannot stand here, because Traefik has changed its digits or may have: quote the value (if it is quoted and looks like a number nevertheless, make it a list of one text)"

// These match a float that YAML or JSON has read and somebody has written again: docker compose
// (1.1016948447438627e+20), Traefik's file provider (1.500000), both.
var (
	exponent = regexp.MustCompile(`^[+-]?[0-9](\.[0-9]+)?e[+-][0-9]{2,}$|^[+-]Inf$|^NaN$`)
	sixthOf  = regexp.MustCompile(`^[+-]?[0-9]+\.[0-9]{6}$`)
	fraction = regexp.MustCompile(`^[+-]?[0-9]+\.[0-9]+$`)
	digits   = regexp.MustCompile(`^[0-9]+$`)
)

// isChangedNumber finds text that was a number on its way here and is another one now. An
// identifier of 20 digits or more is refused if it is exactly a float: the file provider rounds
// an unquoted one to the nearest. One in 4,096 at most of all real ones is such a number;
// changedNumber says what to do then.
func isChangedNumber(text string, identifier bool) bool {
	text = strings.TrimSpace(text)
	if text == "" || strings.IndexByte("+-0123456789N", text[0]) < 0 { // as most labels
		return false
	}
	return isRounded(text, identifier)
}

func isRounded(text string, identifier bool) bool {
	if exponent.MatchString(text) || sixthOf.MatchString(text) {
		return true
	}
	if !identifier {
		return false
	}
	if len(text) < 20 || !digits.MatchString(text) {
		return fraction.MatchString(text)
	}
	f, err := strconv.ParseFloat(text, 64)
	return err == nil && strconv.FormatFloat(f, 'f', 0, 64) == text
}

// wholeNumber returns the digits of a number, empty for anything else, and whether it is a whole
// one that no decoder has rounded.
func wholeNumber(v reflect.Value) (string, bool) {
	kind := v.Kind()
	switch {
	case kind >= reflect.Int && kind <= reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true
	case kind >= reflect.Uint && kind <= reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), true
	case kind == reflect.Float32 || kind == reflect.Float64:
		f := v.Float()
		const exact = 9007199254740992 // 2^53
		return strconv.FormatFloat(f, 'f', -1, 64), f == math.Trunc(f) && math.Abs(f) < exact
	}
	return "", false
}

var errNoLabels = errors.New("no labels: set at least providerIssuer, clientID, clientSecret, resource and sidecarURL")

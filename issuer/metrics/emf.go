package metrics

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// On AWS Lambda nobody can ask a process for its counts: it is frozen, and there are many. So what
// was counted goes to the log, in CloudWatch's embedded metric format, of which CloudWatch makes
// metrics. The numbers are those since the last line.
//
// In CloudWatch each combination of name and dimensions is a metric that is paid for, whatever it
// counts. So there are few: the dimension of a metric is its tenant or provider, a label whose
// values are told apart (Label.Apart) is part of its name, and all other labels stand beside it as
// details, which make no metric and can be searched.

const (
	namespace = "mcpbouncer"
	// maxValuesOfALine is how many numbers one metric may have in one line.
	maxValuesOfALine = 100
)

// lines is what was counted since the last line, in the order in which it came.
type lines struct {
	function string // dimension of all metrics: two functions of an account must not add up

	mu    sync.Mutex // guards the rest for one access
	all   []*counted
	worth bool      // what is in all is worth a line now
	last  time.Time // when lines were written
}

// counted is a count, or durations in seconds, with the values of the metric's labels.
type counted struct {
	metric  int
	values  []string
	n       uint64
	seconds []float64
}

// NewForLines returns metrics that WriteLines writes, and that no Handler shows. function is the
// name of the Lambda function.
func NewForLines(function string) *Metrics {
	return &Metrics{lines: &lines{function: dimensionValue(function)}, names: map[string]map[string]bool{}}
}

// note adds what was counted to the next line.
func (m *Metrics) note(metric int, values []string, n uint64, seconds ...float64) {
	bounded := make([]string, len(values))
	for i, label := range Declarations[metric].Labels {
		bounded[i] = m.bounded(metric, label, values[i])
	}
	l := m.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worth = l.worth || metric != hopRefusals
	for _, c := range l.all { // an invocation counts few things
		if c.metric == metric && slices.Equal(c.values, bounded) && len(c.seconds)+len(seconds) <= maxValuesOfALine {
			c.n += n
			c.seconds = append(c.seconds, seconds...)
			return
		}
	}
	l.all = append(l.all, &counted{metric, bounded, n, seconds})
}

// WriteLines writes what was counted since the last call: nothing if that is nothing, and else as
// few lines as the format allows. A line has one tenant and one provider, as an invocation has.
func (m *Metrics) WriteLines(w io.Writer, now time.Time) error {
	if m == nil || m.lines == nil {
		return nil
	}
	all := m.lines.take(now)
	var documents []*emfDocument
	for _, c := range all {
		placed := false
		for _, d := range documents {
			placed = placed || d.place(c)
		}
		if !placed {
			d := &emfDocument{root: map[string]any{"function": m.lines.function}, defined: map[string][]map[string]string{}}
			d.place(c)
			documents = append(documents, d)
		}
	}
	for _, d := range documents {
		text, err := json.Marshal(d.finish(now))
		if err != nil {
			return err
		}
		// in one piece: lines of the log are written at the same time
		if _, err := w.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// take returns what is to be written now. Strangers at the function's URL cause refusals of hop
// headers as they please. Those must not fill the log: a line for nothing else comes once in a
// minute, and until then they wait.
func (l *lines) take(now time.Time) []*counted {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil || !l.worth && now.Sub(l.last).Abs() < time.Minute { // a clock may be set back
		return nil
	}
	all := l.all
	l.all, l.worth, l.last = nil, false, now
	return all
}

// emfDocument is one line that is being made.
type emfDocument struct {
	root map[string]any // the numbers, and the values of the dimensions
	// :: label that is the dimension, or none → MetricDefinitions
	defined map[string][]map[string]string
	details []map[string]any
}

// place puts a count into the line, if there is room: the dimension has this value or none yet, and
// durations are the first of their name.
func (d *emfDocument) place(c *counted) bool {
	// the declared name without what the namespace says, and with the value that is counted apart
	name := strings.TrimSuffix(Declarations[c.metric].Name[len(namespace+"_"):], "_total")
	var dimension string
	var value any
	detail := map[string]any{}
	for i, label := range Declarations[c.metric].Labels {
		switch {
		case label.Values == nil: // whose the metric is
			dimension, value = label.Name, dimensionValue(c.values[i])
		case label.Apart:
			name += "_" + c.values[i]
		default:
			detail[label.Name] = c.values[i]
		}
	}
	before, known := d.root[name]
	if of := d.root[dimension]; of != nil && of != value || known && c.seconds != nil {
		return false
	}
	definition := map[string]string{"Name": name, "Unit": "Count"}
	if c.seconds != nil {
		d.root[name], definition["Unit"] = c.seconds, "Seconds"
	} else {
		n, _ := before.(uint64)
		d.root[name] = n + c.n
	}
	if !known {
		d.defined[dimension] = append(d.defined[dimension], definition)
	}
	if dimension != "" {
		d.root[dimension] = value
	}
	if len(detail) > 0 {
		detail["metric"], detail["count"] = name, c.n
		d.details = append(d.details, detail)
	}
	return true
}

func (d *emfDocument) finish(now time.Time) map[string]any {
	var directives []map[string]any
	for _, dimension := range []string{"", "tenant", "provider"} {
		set := []string{"function", dimension}
		if dimension == "" {
			set = set[:1]
		}
		if definitions := d.defined[dimension]; definitions != nil {
			directives = append(directives, map[string]any{"Namespace": namespace, "Dimensions": [][]string{set}, "Metrics": definitions})
		}
	}
	d.root["_aws"] = map[string]any{"Timestamp": now.UnixMilli(), "CloudWatchMetrics": directives}
	if d.details != nil {
		d.root["details"] = d.details
	}
	return d.root
}

// dimensionValue is a text that CloudWatch takes for one: it drops a metric whose dimension is
// empty or not ASCII.
func dimensionValue(text string) string {
	quoted := strconv.QuoteToASCII(text)
	return cmp.Or(strings.TrimSpace(quoted[1:len(quoted)-1]), "_")
}

package contract

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Parse reads a record, one line for each thing, times in seconds:
//
//	0-1 login someone granted            a code was had
//	0-1 redeem c granted r1              the code c gave the refresh token r1
//	2-3 refresh r1 at a granted r2       process a answered
//	2-3 refresh r1 cut unanswered        the client hung up
//	4-5 redeem c forged refused          with a wrong verifier
//	4-5 refresh r1 forged refused        of a bound token, without its key; so is a call
//	4-5 assert j in L until 60 granted   an identity assertion; the access token ends at 60
//	4-5 work w in L until 60 granted     a workload's JWT
//	4-5 call r2 until 60 granted         with the access token that came with r2, which ends at 60
//	6-7 revoke r2 granted
//	8-9 outage store                     or sidecar, provider; emptied for a store that forgot
//	9 ends c by 10                       the operator ended the family of c
//	0-1 redeem c of ada granted r1       ada's login
//	0-1 redeem c in L granted r1         the access token names the login L
//	8-9 ends of ada by 12                the provider ended hers
//
// Empty lines and lines that begin with # are nothing.
func Parse(text string) (History, error) {
	var h History
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := h.parse(fields); err != nil {
			return History{}, fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
	}
	return h, nil
}

func (h *History) parse(fields []string) error {
	if len(fields) < 3 {
		return errors.New("too short")
	}
	from, to, err := span(fields[0])
	if err != nil {
		return err
	}
	words := fields[3:]
	next := func() string {
		if len(words) == 0 {
			return ""
		}
		word := words[0]
		words = words[1:]
		return word
	}
	switch fields[1] {
	case "outage":
		h.Outages = append(h.Outages, Outage{Part(fields[2]), from, to})
	case "ends":
		e := Ending{Value: fields[2], From: from}
		if e.Value == "of" {
			e.Value, e.Who, e.To = "", next(), to
		}
		if next() == "by" {
			if e.By, err = seconds(next()); err != nil {
				return err
			}
		}
		h.Endings = append(h.Endings, e)
	case string(Login), string(Redeem), string(Refresh), string(Revoke), string(Call), string(Assert), string(Work):
		op := Op{Start: from, End: to, Do: Action(fields[1]), Value: fields[2]}
		for op.Outcome == "" {
			switch word := next(); word {
			case "forged":
				op.Forged = true
			case "cut":
				op.Cut = true
			case "of":
				op.Who = next()
			case "at":
				op.Process = next()
			case "in":
				op.Login = next()
			case "until":
				if op.Expires, err = seconds(next()); err != nil {
					return err
				}
			case string(Granted), string(Refused), string(Unanswered), string(Broken):
				op.Outcome = Outcome(word)
			default:
				return fmt.Errorf("no outcome, but %q", word)
			}
		}
		op.Gives = next()
		h.Ops = append(h.Ops, op)
	default:
		return fmt.Errorf("%q is nothing that happens", fields[1])
	}
	if len(words) > 0 {
		return fmt.Errorf("%q is too much", words[0])
	}
	return nil
}

func span(text string) (from, to time.Duration, err error) {
	first, last, isSpan := strings.Cut(text, "-")
	if from, err = seconds(first); err != nil || !isSpan {
		return from, from, err
	}
	to, err = seconds(last)
	return from, to, err
}

func seconds(text string) (time.Duration, error) {
	f, err := strconv.ParseFloat(text, 64)
	return time.Duration(f * float64(time.Second)), err
}

// String returns the operation in the notation of Parse.
func (op Op) String() string {
	text := fmt.Sprintf("%.3f-%.3f %s %s", op.Start.Seconds(), op.End.Seconds(), op.Do, op.Value)
	if op.Forged {
		text += " forged"
	}
	if op.Do == Call || op.Expires != 0 {
		text += fmt.Sprintf(" until %.3f", op.Expires.Seconds())
	}
	if op.Cut {
		text += " cut"
	}
	if op.Who != "" {
		text += " of " + op.Who
	}
	if op.Process != "" {
		text += " at " + op.Process
	}
	if op.Login != "" {
		text += " in " + op.Login
	}
	return strings.TrimSpace(text + " " + string(op.Outcome) + " " + op.Gives)
}

// String returns the record in the notation of Parse.
func (h History) String() string {
	var b strings.Builder
	for _, o := range h.Outages {
		fmt.Fprintf(&b, "%.3f-%.3f outage %s\n", o.From.Seconds(), o.To.Seconds(), o.Part)
	}
	for _, e := range h.Endings {
		if e.Who != "" {
			fmt.Fprintf(&b, "%.3f-%.3f ends of %s", e.From.Seconds(), e.To.Seconds(), e.Who)
		} else {
			fmt.Fprintf(&b, "%.3f ends %s", e.From.Seconds(), e.Value)
		}
		if e.By != 0 {
			fmt.Fprintf(&b, " by %.3f", e.By.Seconds())
		}
		b.WriteByte('\n')
	}
	for _, op := range h.Ops {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

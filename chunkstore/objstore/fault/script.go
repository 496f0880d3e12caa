// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

type action uint8

const (
	none action = iota
	fail
	lost
	taken
	cut
	flip
	crash
	crashAfter
)

// rule is a line of a script.
type rule struct {
	op, glob string

	nth, from, every, times int64
	p                       float64 // below 0: not given

	delay  time.Duration
	action action
	class  objstore.Class
	at     int64 // of cut and flip
}

var errorClasses = map[string]objstore.Class{
	"retryable": objstore.Retryable, "not-exist": objstore.NotExist, "exists": objstore.Exists, "denied": objstore.Denied,
	"full": objstore.Full, "unreachable": objstore.Unreachable, "permanent": objstore.Permanent,
}

// parse reads a script.
func parse(script string) (rules []rule, seed uint64, err error) {
	for i, line := range strings.FieldsFunc(script, func(r rune) bool { return r == '\n' || r == ';' }) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
			continue
		case fields[0] == "seed" && len(fields) == 2:
			seed, err = strconv.ParseUint(fields[1], 10, 64)
		default:
			var r rule
			r, err = parseRule(fields)
			rules = append(rules, r)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("fault script, rule %d %q: %w", i+1, strings.TrimSpace(line), err)
		}
	}
	return rules, seed, nil
}

func parseRule(fields []string) (rule, error) {
	if len(fields) < 3 {
		return rule{}, errors.New("want an operation, a glob and an action")
	}
	r := rule{op: fields[0], glob: fields[1], p: -1}
	switch r.op {
	case "put", "get", "stat", "list", "delete", "any":
	default:
		return rule{}, fmt.Errorf("unknown operation %q", r.op)
	}
	for _, word := range fields[2:] {
		if err := r.parseWord(word); err != nil {
			return rule{}, err
		}
	}
	switch {
	case r.action == none && r.delay == 0:
		return rule{}, errors.New("no action")
	case r.action == taken && r.op != "put", (r.action == cut || r.action == flip) && r.op != "put" && r.op != "get":
		return rule{}, fmt.Errorf("the action makes no sense for %s", r.op)
	}
	return r, nil
}

func (r *rule) parseWord(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "nth":
		r.nth, err = positive(value)
	case "from":
		r.from, err = positive(value)
	case "every":
		r.every, err = positive(value)
	case "times":
		r.times, err = positive(value)
	case "p":
		if r.p, err = strconv.ParseFloat(value, 64); err == nil && !(r.p >= 0 && r.p <= 1) {
			err = fmt.Errorf("p=%s is no probability", value)
		}
	case "delay":
		if r.delay, err = time.ParseDuration(value); err == nil && r.delay <= 0 {
			err = fmt.Errorf("delay=%s is not positive", value)
		}
	default:
		return r.parseAction(key, value)
	}
	return err
}

func (r *rule) parseAction(key, value string) (err error) {
	if r.action != none {
		return fmt.Errorf("a second action %q", key)
	}
	switch key {
	case "error":
		class, ok := errorClasses[value]
		if !ok {
			return fmt.Errorf("unknown class %q", value)
		}
		r.action, r.class = fail, class
	case "lost":
		r.action = lost
	case "taken":
		r.action = taken
	case "cut", "flip":
		if r.at, err = strconv.ParseInt(value, 10, 64); err == nil && r.at < 0 {
			err = fmt.Errorf("%s=%s is negative", key, value)
		}
		r.action = map[string]action{"cut": cut, "flip": flip}[key]
	case "crash":
		r.action = crash
	case "crash-after":
		r.action = crashAfter
	default:
		return fmt.Errorf("unknown word %q", key)
	}
	return err
}

func positive(value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%s is not positive", value)
	}
	return n, err
}

// matchGlob matches in time proportional to the product of the lengths.
func matchGlob(glob, name string) bool {
	star, mark := -1, 0 // where to go on if a star must swallow one byte more
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, n
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == name[n]):
			g, n = g+1, n+1
		case star >= 0:
			mark++
			g, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

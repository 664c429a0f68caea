package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File    string // as it was named to Load or Parse
	Line    int    // from 1; of the key, or of the nearest thing in the file if the key is missing
	Key     string // as in "upstream[1].pins[0]", counted from 0; "" where none can be told
	Problem string
	Hint    string // what to do about it; "" if that is plain
}

// Error returns the fault in one line.
func (f Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Problem)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Faults is everything that is wrong with a file, in the order of its lines.
type Faults []Fault

// Error returns the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// report gathers what is wrong with a file, and what is merely odd.
type report struct {
	file     string
	lines    positions
	faults   Faults
	warnings Faults
}

func (r *report) at(key, problem, hint string) Fault {
	return Fault{File: r.file, Line: r.lines.nearest(key), Key: key, Problem: problem, Hint: hint}
}

// fault reports what is wrong with a key, unless something is already: the rest
// would only follow from it.
func (r *report) fault(key, problem, hint string) {
	if !r.faulty(key) {
		r.faults = append(r.faults, r.at(key, problem, hint))
	}
}

// faulty reports whether something is wrong with a key.
func (r *report) faulty(key string) bool {
	return slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Key == key })
}

func (r *report) warn(key, problem, hint string) {
	r.warnings = append(r.warnings, r.at(key, problem, hint))
}

// err returns the faults as an error, nil if there are none.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	sortByLine(r.faults)
	return r.faults
}

func sortByLine(f Faults) {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
}

// nearest returns the candidate that was probably meant by word, "" if none is
// near: one that differs in case and punctuation only, or in few letters.
func nearest(word string, candidates []string) string {
	best, least := "", max(2, len(word)/3)+1
	if len(word) > 100 {
		return "" // no key or name is that long
	}
	for _, c := range candidates {
		if d := distance(fold(word), fold(c)); d < least && d < len(fold(c)) {
			best, least = c, d
		}
	}
	return best
}

// fold drops what people write differently without meaning anything by it.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// distance is the number of characters to insert, delete or replace that make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// suggest asks whether the nearest candidate was meant; if none is near it lists them all.
func suggest(word string, candidates []string) string {
	if n := nearest(word, candidates); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	if len(candidates) == 0 {
		return ""
	}
	return "want " + choices(candidates)
}

// choices lists the candidates as people read them.
func choices(candidates []string) string {
	quoted := make([]string, len(candidates))
	for i, c := range candidates {
		quoted[i] = fmt.Sprintf("%q", c)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

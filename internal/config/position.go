package config

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// The TOML library tells the line of an error of syntax, but not the line of a
// value that it could read: its positions are private, and one entry serves all
// elements of an array. This scanner finds the lines. It serves messages only: what the
// values are is the library's to say. A test compares its keys with the library's.

// maxDepth bounds how deep keys and values nest. The file needs three levels; the
// library recurses for each.
const maxDepth = 16

// positions is the line of each key and array element, by its path as in
// "upstream[1].pins[0]".
type positions map[string]int

// nearest returns the line of a key or, if it is not in the file, of the
// innermost thing around it that is; 1 if nothing is.
func (p positions) nearest(path string) int {
	for path != "" {
		if line, ok := p[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1
}

// on returns the path of what is on a line, the innermost if there are several; "" if nothing is.
func (p positions) on(line int) (path string) {
	for candidate, at := range p {
		if at == line && (len(candidate) > len(path) || len(candidate) == len(path) && candidate > path) {
			path = candidate
		}
	}
	return path
}

// join returns the path of a key in the table at path.
func join(path, key string) string {
	key = toml.Key{key}.String()
	if path == "" {
		return key
	}
	return path + "." + key
}

// element returns the path of the i-th element of the array at path.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// repeat is a key that was defined before.
type repeat struct {
	path        string
	line, first int
}

// scanner reads TOML text for its keys. It goes on as far as it understands the text.
type scanner struct {
	text    string
	pos     int
	line    int
	lines   positions
	defined map[string]int // lines of keys that have a value, and of tables that have a header
	count   map[string]int // elements that [[headers]] have made, by the array's path
	repeats []repeat
	deep    int // the line where maxDepth was passed, 0 if it was not
}

// scan returns the lines of the keys in text, the keys that are there twice, and
// the line that nests deeper than maxDepth, 0 if none does.
func scan(text string) (positions, []repeat, int) {
	s := &scanner{text: text, line: 1, lines: positions{}, defined: map[string]int{}, count: map[string]int{}}
	table := ""
	for s.skip(" \t\r\n"); s.pos < len(s.text); s.skip(" \t\r\n") {
		ok := false
		if s.peek() == '[' {
			table, ok = s.header()
		} else {
			ok = s.pair(table, 1)
		}
		if !ok {
			break
		}
	}
	return s.lines, s.repeats, s.deep
}

// peek returns the next octet, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// take goes past an octet if it is the next one.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.pos >= len(s.text) {
		return false
	}
	s.advance(1)
	return true
}

func (s *scanner) advance(n int) {
	n = min(n, len(s.text)-s.pos)
	s.line += strings.Count(s.text[s.pos:s.pos+n], "\n")
	s.pos += n
}

// skip goes past comments and the octets in set.
func (s *scanner) skip(set string) {
	for s.pos < len(s.text) {
		switch c := s.peek(); {
		case c == '#':
			s.advance(until(s.text[s.pos:], "\n"))
		case strings.IndexByte(set, c) >= 0:
			s.advance(1)
		default:
			return
		}
	}
}

// until returns how many octets of text come before the first one in set.
func until(text, set string) int {
	if i := strings.IndexAny(text, set); i >= 0 {
		return i
	}
	return len(text)
}

// mark notes the line of a path, unless it is known already.
func (s *scanner) mark(path string, line int) {
	if _, ok := s.lines[path]; !ok {
		s.lines[path] = line
	}
}

// define marks what may be defined once only.
func (s *scanner) define(path string, line int) {
	s.mark(path, line)
	if first, ok := s.defined[path]; ok {
		s.repeats = append(s.repeats, repeat{path, line, first})
		return
	}
	s.defined[path] = line
}

// descend returns the path of key in the table at path; in an array of tables
// that is in the last one so far.
func (s *scanner) descend(path, key string) string {
	path = join(path, key)
	if n := s.count[path]; n > 0 {
		return element(path, n-1)
	}
	return path
}

// header reads "[a.b]" or "[[a.b]]" and returns the path of the table it opens.
func (s *scanner) header() (path string, ok bool) {
	line := s.line
	s.take('[')
	array := s.take('[')
	keys, ok := s.key()
	if !ok || !s.take(']') || array && !s.take(']') {
		return "", false
	}
	for _, key := range keys[:len(keys)-1] {
		path = s.descend(path, key)
		s.mark(path, line)
	}
	path = join(path, keys[len(keys)-1])
	if !array {
		s.define(path, line)
		return path, true
	}
	s.mark(path, line)
	s.count[path]++
	path = element(path, s.count[path]-1)
	s.mark(path, line)
	return path, true
}

// key reads a key of one or more parts, and the blanks around it.
func (s *scanner) key() (parts []string, ok bool) {
	for {
		s.skip(" \t")
		part, ok := s.part()
		if !ok {
			return nil, false
		}
		parts = append(parts, part)
		if len(parts) > maxDepth {
			s.tooDeep()
			return nil, false
		}
		s.skip(" \t")
		if !s.take('.') {
			return parts, true
		}
	}
}

func (s *scanner) tooDeep() {
	if s.deep == 0 {
		s.deep = s.line
	}
}

// part reads one part of a key, bare or quoted.
func (s *scanner) part() (string, bool) {
	start := s.pos
	switch s.peek() {
	case '\'':
		if !s.quoted() {
			return "", false
		}
		return s.text[start+1 : s.pos-1], true
	case '"':
		if !s.quoted() {
			return "", false
		}
		var v struct{ K string }
		_, err := toml.Decode("K="+s.text[start:s.pos], &v)
		return v.K, err == nil
	default:
		s.advance(len(s.text) - s.pos - len(strings.TrimLeft(s.text[s.pos:], bare)))
		return s.text[start:s.pos], s.pos > start
	}
}

const bare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// pair reads "key = value" in the table at path.
func (s *scanner) pair(path string, depth int) bool {
	line := s.line
	keys, ok := s.key()
	if !ok || !s.take('=') {
		return false
	}
	for _, key := range keys[:len(keys)-1] {
		path = s.descend(path, key)
		s.mark(path, line)
	}
	path = join(path, keys[len(keys)-1])
	s.define(path, line)
	s.skip(" \t")
	return s.value(path, depth)
}

// value reads the value of the key at path.
func (s *scanner) value(path string, depth int) bool {
	if depth > maxDepth {
		s.tooDeep()
		return false
	}
	switch s.peek() {
	case '[':
		return s.array(path, depth)
	case '{':
		return s.inlineTable(path, depth)
	case '"', '\'':
		return s.quoted()
	default: // a number, a boolean or a date
		n := until(s.text[s.pos:], ",]}#\n")
		s.advance(n)
		return n > 0
	}
}

const blank = " \t\r\n"

func (s *scanner) array(path string, depth int) bool {
	s.take('[')
	for i := 0; ; i++ {
		s.skip(blank)
		if s.take(']') {
			return true
		}
		at := element(path, i)
		s.mark(at, s.line)
		if !s.value(at, depth+1) {
			return false
		}
		s.skip(blank)
		if !s.take(',') {
			return s.take(']')
		}
	}
}

func (s *scanner) inlineTable(path string, depth int) bool {
	s.take('{')
	for {
		s.skip(blank)
		if s.take('}') {
			return true
		}
		if !s.pair(path, depth+1) {
			return false
		}
		s.skip(blank)
		if !s.take(',') {
			return s.take('}')
		}
	}
}

// quoted goes past a string of any of the four kinds.
func (s *scanner) quoted() bool {
	quote := s.text[s.pos : s.pos+1]
	escapes := quote == `"`
	long := strings.Repeat(quote, 3)
	if strings.HasPrefix(s.text[s.pos:], long) {
		s.advance(3)
		if !s.close(long, escapes) {
			return false
		}
		for range 2 { // a long string may end in quotes of its own
			s.take(quote[0])
		}
		return true
	}
	s.advance(1)
	return s.close(quote, escapes)
}

// close goes past the next end that is not escaped.
func (s *scanner) close(end string, escapes bool) bool {
	for s.pos < len(s.text) {
		switch rest := s.text[s.pos:]; {
		case strings.HasPrefix(rest, end):
			s.advance(len(end))
			return true
		case len(end) == 1 && rest[0] == '\n':
			return false
		case escapes && rest[0] == '\\':
			s.advance(2)
		default:
			s.advance(1)
		}
	}
	return false
}

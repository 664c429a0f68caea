package config_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"dnsproxy/internal/config"
)

func TestScanFindsTheLineOfEachKey(t *testing.T) {
	text := `# a comment with a = 1 and [brackets]
a = 1
"b.c" = "x # no comment" # a comment
d.e.'f g' = [ # elements have lines of their own
  "one", """
two
lines""",
  { k = [1, 2], l.m = 3 }, # [8]
]

[t]
a = 'C:\' # no escape in single quotes
b = """"quoted""""
c = ''' '' '''
"q\"\u0041" = 2026-01-02 03:04:05

[[list]]
x = 1
[list.sub]
y = { z = "}" }
[[list]]
x = 2
[[list.inner]]
[[list.inner]]
x = 3
`
	want := map[string]int{
		"a": 2, `"b.c"`: 3, "d": 4, "d.e": 4, `d.e."f g"`: 4,
		`d.e."f g"[0]`: 5, `d.e."f g"[1]`: 5, `d.e."f g"[2]`: 8, `d.e."f g"[2].k`: 8,
		`d.e."f g"[2].k[0]`: 8, `d.e."f g"[2].k[1]`: 8, `d.e."f g"[2].l`: 8, `d.e."f g"[2].l.m`: 8,
		"t": 11, "t.a": 12, "t.b": 13, "t.c": 14, `t."q\"A"`: 15,
		"list": 17, "list[0]": 17, "list[0].x": 18, "list[0].sub": 19, "list[0].sub.y": 20, "list[0].sub.y.z": 20,
		"list[1]": 21, "list[1].x": 22, "list[1].inner": 23, "list[1].inner[0]": 23, "list[1].inner[1]": 24, "list[1].inner[1].x": 25,
	}
	got, _ := config.Scan(text)
	if !maps.Equal(got, want) {
		for path, line := range want {
			if got[path] != line {
				t.Errorf("%s: got line %d, want %d", path, got[path], line)
			}
		}
		for path, line := range got {
			if want[path] == 0 {
				t.Errorf("%s: got line %d, want none", path, line)
			}
		}
	}
	sameKeys(t, text)
}

func TestScanStopsAtDepth(t *testing.T) {
	for _, text := range []string{
		"a = " + strings.Repeat("[", 1000),
		"\n[" + strings.Repeat("a.", 1000) + "a]",
		strings.Repeat("a.", 1000) + "a = 1",
		"a = " + strings.Repeat("{a=", 1000),
	} {
		if _, deep := config.Scan(text); deep != 1+strings.Count(text, "\n") {
			t.Errorf("%.20s: got line %d", text, deep)
		}
	}
}

// Whatever the library reads, the scanner finds exactly its keys and elements,
// each on a line that holds it.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "a.b.c = [[], [1], {x = {y=1}}]\n", "[a]\n[a.b]\n[[a.c]]\nd=1\n[[a.c]]\nd=2", "a='''\n'''''", "a=\"\"\"\\\"\"\"\"\"",
		"\"\\\"\"=1", "'a'.b=1\r\n# c", "x=[1 # ]\n,2]", "a=1979-05-27 07:32:00 # d", "a=[{b=1},{b=2}]", "a={b.c=1,\n}", "[a]\nb.c=1\n[a.d]",
	} {
		f.Add(seed)
	}
	f.Fuzz(sameKeys)
}

func sameKeys(t *testing.T, text string) {
	lines, deep := config.Scan(text)
	if deep > 0 || strings.HasPrefix(text, "\uFEFF") || strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return
	}
	var file map[string]any
	if _, err := toml.Decode(text, &file); err != nil {
		return
	}
	want := map[string]bool{}
	paths("", file, want)
	for path := range want {
		if lines[path] == 0 {
			t.Errorf("no line for %s in %q", path, text)
		}
	}
	all := strings.Split(text, "\n")
	for path, line := range lines {
		if !want[path] {
			t.Errorf("the library knows no %s in %q", path, text)
		}
		if key := path[strings.LastIndexByte(path, '.')+1:]; strings.Trim(key, "abcdefghijklmnopqrstuvwxyz") == "" && !strings.Contains(text, `"`) {
			if !strings.Contains(all[line-1], key) {
				t.Errorf("%s is not on line %d of %q", path, line, text)
			}
		}
	}
}

// paths adds the path of everything in value.
func paths(path string, value any, to map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			at := config.Join(path, key)
			to[at] = true
			paths(at, value[key], to)
		}
	case []map[string]any:
		for i, v := range value {
			to[config.Element(path, i)] = true
			paths(config.Element(path, i), v, to)
		}
	case []any:
		for i, v := range value {
			to[config.Element(path, i)] = true
			paths(config.Element(path, i), v, to)
		}
	}
}

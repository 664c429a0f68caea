package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	gotypes "go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dnsproxy/internal/config"
	"dnsproxy/internal/control"
	"dnsproxy/internal/doctor"
	"dnsproxy/internal/probe"
)

// The manual pages are held to the program here. They are written in mdoc(7), and where
// they list things, in one way: a line ".It Cm" for each command, ".It Ic" for each key, ".It Li" for each event.

// readManual returns a page's source, with the escapes that it uses undone.
func readManual(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile("../../packaging/man/" + page)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\(dq`, `"`, `\(lq`, "“", `\(rq`, "”", `\-`, "-", `\&`, "").Replace(string(text))
}

// section returns what stands between a heading and the next of its kind, or of a higher one.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("no %q in the page", heading)
	}
	end := regexp.MustCompile(`(?m)^\.S[hs] `)
	if strings.HasPrefix(heading, ".Sh") {
		end = regexp.MustCompile(`(?m)^\.Sh `)
	}
	if at := end.FindStringIndex(rest); at != nil {
		rest = rest[:at[0]]
	}
	return rest
}

// sameSets compares what a page lists with what there is.
func sameSets(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("%s: %q is missing", what, s)
		}
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("%s: %q is there, but not in the program", what, s)
		}
	}
}

// programCommands returns each command that "help" lists, with its synopsis, and "help" itself.
func programCommands(t *testing.T) (names []string, synopses map[string]string) {
	t.Helper()
	code, text, _ := finish(t, "help")
	if code != 0 {
		t.Fatalf("help: exit code %d", code)
	}
	synopses = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +(.*)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
		synopses[m[1]] = m[2]
	}
	return append(names, "help"), synopses
}

// programOptions returns the options that a command's help explains, as "--json" and "--config=".
func programOptions(t *testing.T, command string) (options []string) {
	t.Helper()
	if command == "help" {
		return nil
	}
	code, text, _ := finish(t, command, "--help")
	if code != 0 {
		t.Fatalf("%s --help: exit code %d", command, code)
	}
	for _, m := range regexp.MustCompile(`(?m)^  (--[a-z]+=?)`).FindAllStringSubmatch(text, -1) {
		options = append(options, m[1])
	}
	return options
}

func TestManualHasEachCommandWithItsOptions(t *testing.T) {
	page := readManual(t, "dnsproxy.8")
	commands, _ := programCommands(t)
	var explained []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm ([a-z]+)$`).FindAllStringSubmatch(section(t, page, ".Sh DESCRIPTION"), -1) {
		explained = append(explained, m[1])
	}
	sameSets(t, "DESCRIPTION", explained, commands)

	synopsis := map[string][]string{}
	for form := range strings.SplitSeq(section(t, page, ".Sh SYNOPSIS"), ".Nm\n") {
		m := regexp.MustCompile(`^\.Cm ([a-z]+)\n`).FindStringSubmatch(form)
		if m == nil {
			continue
		}
		synopsis[m[1]] = []string{}
		for _, o := range regexp.MustCompile(`Fl Fl ([a-z]+)( Ns =)?`).FindAllStringSubmatch(form, -1) {
			synopsis[m[1]] = append(synopsis[m[1]], "--"+o[1]+strings.TrimPrefix(o[2], " Ns "))
		}
	}
	sameSets(t, "SYNOPSIS", slices.Collect(maps.Keys(synopsis)), commands)
	var all []string
	for _, c := range commands {
		options := programOptions(t, c)
		sameSets(t, "SYNOPSIS of "+c, synopsis[c], options)
		for _, o := range options {
			all = append(all, strings.TrimSuffix(o, "="))
		}
	}
	for _, m := range regexp.MustCompile(`Fl Fl ([a-z]+)`).FindAllStringSubmatch(page, -1) {
		if o := "--" + m[1]; o != "--help" && !slices.Contains(all, o) {
			t.Errorf("the page speaks of %s, which no command has", o)
		}
	}
}

// manualKey is a key as dnsproxy.toml(5) explains it.
type manualKey struct {
	table, key string
	text       string // macros and all
}

// manualKeys returns all that the page explains.
func manualKeys(page string) (keys []manualKey) {
	page, _, _ = strings.Cut(page, "\n.Sh FILES\n")
	heading := regexp.MustCompile(`^\.Ss \[+([a-z]+)\]+ tables?$`)
	item := regexp.MustCompile(`^\.It Ic ([a-z_]+)$`)
	table, inside := "", false
	for line := range strings.SplitSeq(page, "\n") {
		if m := item.FindStringSubmatch(line); m != nil {
			keys, inside = append(keys, manualKey{table: table, key: m[1]}), true
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			table = m[1]
		}
		if line == ".El" {
			inside = false
		}
		if inside {
			keys[len(keys)-1].text += line + "\n"
		}
	}
	return keys
}

// standard returns the default that the page tells, as TOML; "none" where there is none.
func (k manualKey) standard() string {
	_, text, _ := strings.Cut("\n"+k.text, "\nDefault:")
	if strings.HasPrefix(text, " none") {
		return "none"
	}
	if m := regexp.MustCompile(`^\n\.Li (.*?)( [.;])?\n`).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// The example file is held to the same list, by the tests of package config.
func TestManualHasEachKeyWithItsDefaultAndBounds(t *testing.T) {
	keys := manualKeys(readManual(t, "dnsproxy.toml.5"))
	for _, k := range config.Knobs() {
		at := slices.IndexFunc(keys, func(m manualKey) bool { return m.table == k.Table && m.key == k.Key })
		if at < 0 {
			t.Errorf("%s is missing", k.Path())
			continue
		}
		m := keys[at]
		want := k.Default
		if want == `""` || want == "[]" {
			want = "none"
		}
		if got := m.standard(); got != want {
			t.Errorf("%s: the page has the default %q, the program %q", k.Path(), got, want)
		}
		plain := strings.Join(strings.Fields(m.text), " ")
		if k.Choices == nil && !strings.Contains(plain, k.Bounds()) && !strings.Contains(plain, strings.TrimSuffix(k.Bounds(), ".")+",") {
			t.Errorf("%s: no %q in the page", k.Path(), k.Bounds())
		}
		for _, c := range k.Choices {
			if !regexp.MustCompile(`(?m)^\.Li "?` + regexp.QuoteMeta(c) + `"?( [.,:])?$`).MatchString(m.text) {
				t.Errorf("%s: the page does not have %s", k.Path(), c)
			}
		}
		if says := strings.Contains(m.text, "A change needs a restart."); says != k.Restart {
			t.Errorf("%s: that a change needs a restart is %t, the page says %t", k.Path(), k.Restart, says)
		}
		if !slices.ContainsFunc(keys[:at], func(m manualKey) bool { return m.table == k.Table && m.key == k.Key }) {
			keys = slices.Delete(keys, at, at+1)
		}
	}
	for _, m := range keys {
		t.Errorf("%s.%s is no key, or stands there twice", m.table, m.key)
	}
}

// Whoever pastes an example gets what it says, without a warning.
func TestManualsConfigurationsAreAccepted(t *testing.T) {
	ca := writeCA(t)
	count := 0
	for _, page := range []string{"dnsproxy.8", "dnsproxy.toml.5"} {
		for _, block := range regexp.MustCompile(`(?s)\n\.Bd -literal[^\n]*\n(.*?)\.Ed\n`).FindAllStringSubmatch(readManual(t, page), -1) {
			text := strings.ReplaceAll(block[1], "/etc/dnsproxy/corp-ca.pem", ca)
			if !strings.Contains(text, "[[upstream]]") {
				continue
			}
			count++
			if code, _, stderr := finish(t, "check", "--quiet", "--config="+writeConfig(t, withCA(text, ca))); code != 0 || stderr != "" {
				t.Errorf("%s: exit code %d, and\n%s%s", page, code, stderr, text)
			}
		}
	}
	if count < 6 {
		t.Errorf("%d whole configurations in the pages, want 6: the least, a laptop, a router, containers, a company, pins", count)
	}
}

// withCA has a configuration that may have keys before its first table use a CA file that is there.
func withCA(text, ca string) string { return "tls.ca_file = \"" + ca + "\"\n" + text }

// jsonKeys returns the names that v has as JSON, those of what it contains included.
func jsonKeys(v reflect.Type) (keys []string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice:
		return jsonKeys(v.Elem())
	case reflect.Struct:
		for f := range v.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				keys = append(append(keys, name), jsonKeys(f.Type)...)
			}
		}
	}
	return keys
}

func TestManualHasEachNameInJSON(t *testing.T) {
	page := section(t, readManual(t, "dnsproxy.8"), ".Sh JSON")
	for command, v := range map[string]any{
		"status": control.Status{}, "flush": control.Flushed{}, "explain": control.Explanation{},
		"probe": probe.Finding{}, "doctor": doctor.Finding{},
	} {
		var told []string
		for _, m := range regexp.MustCompile(`(?m)^\.(?:It )?Cm (.*)$`).FindAllStringSubmatch(section(t, page, ".Ss "+command), -1) {
			told = append(told, strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == ',' })...)
		}
		sameSets(t, "JSON of "+command, told, jsonKeys(reflect.TypeOf(v)))
	}
}

// variable are the records whose message is not constant, with why.
var variable = map[string]string{
	"d.log.Warn(w)":                      "a warning of the configuration, which tells file, line and key itself",
	"log.Error(strings.TrimSpace(line))": "what kept the daemon from starting, or ended it: there is no state that it changes",
}

// indirect are the records whose method is chosen first.
var indirect = map[string]string{
	"c.log.Info": "session opened", // or at debug, if it is like the last one
}

// events returns every event at info and above that the program may log, with its levels.
func events(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	seen := map[string]bool{}
	for _, root := range []string{".", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			for _, r := range records(file) {
				name := r.event
				if name == "" {
					seen[r.text] = true
					if name = indirect[r.text]; name == "" {
						if variable[r.text] == "" {
							t.Errorf("%v: %s: neither constant nor known to this test", set.Position(r.pos), r.text)
						}
						continue
					}
				}
				if !slices.Contains(found[name], r.level) {
					found[name] = append(found[name], r.level)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for text := range variable {
		if !seen[text] {
			t.Errorf("%s is no longer in the program", text)
		}
	}
	for text := range indirect {
		if !seen[text] {
			t.Errorf("%s is no longer in the program", text)
		}
	}
	return found
}

// record is a place where something is logged.
type record struct {
	level string // as the manual says it
	event string // "" if that is not constant, or the method is not called there
	text  string // the expression
	pos   token.Pos
}

// records returns all of a file: uses of the methods Info, Warn and Error of whatever is called log, and calls of slog.NewRecord.
func records(file *ast.File) (all []record) {
	methods := map[string]string{"Info": "info", "Warn": "warning", "Error": "error"}
	levels := map[string]string{"slog.LevelInfo": "info", "slog.LevelWarn": "warning", "slog.LevelError": "error"}
	called := map[*ast.SelectorExpr]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if gotypes.ExprString(s) == "slog.NewRecord" && len(n.Args) == 4 {
				all = append(all, record{levels[gotypes.ExprString(n.Args[1])], constant(n.Args[2]), gotypes.ExprString(n), n.Pos()})
			}
			if isLog(s.X) && methods[s.Sel.Name] != "" && len(n.Args) > 0 {
				called[s] = true
				all = append(all, record{methods[s.Sel.Name], constant(n.Args[0]), gotypes.ExprString(n), n.Pos()})
			}
		case *ast.SelectorExpr:
			if level := methods[n.Sel.Name]; isLog(n.X) && level != "" && !called[n] {
				all = append(all, record{level: level, text: gotypes.ExprString(n), pos: n.Pos()})
			}
		}
		return true
	})
	return all
}

// isLog tells loggers by their names.
func isLog(x ast.Expr) bool {
	name := ""
	switch x := x.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		name = x.Sel.Name
	}
	return strings.HasSuffix(strings.ToLower(name), "log")
}

// constant returns the text that x spells, "" if it does not.
func constant(x ast.Expr) string {
	if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if s, err := strconv.Unquote(lit.Value); err == nil {
			return s
		}
	}
	return ""
}

func TestManualHasEachEvent(t *testing.T) {
	var told, want []string
	list := section(t, readManual(t, "dnsproxy.8"), ".Sh EVENTS")
	for _, m := range regexp.MustCompile(`(?m)^\.It Li (?:"(.*)"|(\S+)) Pq ([a-z ]+)$`).FindAllStringSubmatch(list, -1) {
		levels := strings.Split(m[3], " or ")
		slices.Sort(levels)
		told = append(told, m[1]+m[2]+" ("+strings.Join(levels, ", ")+")")
	}
	if items := strings.Count(list, "\n.It "); items != len(told) {
		t.Errorf("%d of %d items can be read", len(told), items)
	}
	for event, levels := range events(t) {
		slices.Sort(levels)
		want = append(want, event+" ("+strings.Join(levels, ", ")+")")
	}
	sameSets(t, "EVENTS", told, want)
}

func TestManualsMetricsAreThere(t *testing.T) {
	var source strings.Builder
	for _, file := range []string{"metrics.go", "metrics_sessions.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	families := regexp.MustCompile(`dnsproxy_[a-z_]+`).FindAllString(section(t, readManual(t, "dnsproxy.8"), ".Ss Metrics"), -1)
	if len(families) == 0 {
		t.Error("the page names none")
	}
	for _, f := range families {
		if !strings.Contains(source.String(), strconv.Quote(f)) {
			t.Errorf("the page has %s, the program does not", f)
		}
	}
}

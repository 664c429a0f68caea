package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readFile turns the library's view of the file into its raw shape.
func (r *report) readFile(file map[string]any) raw {
	out := defaults()
	top := slices.Collect(keysOf(knobs[:], ""))
	for _, name := range slices.Sorted(maps.Keys(file)) {
		value := file[name]
		switch {
		case name == "upstream":
			for i, t := range r.tableList(name, value) {
				u := defaultUpstream()
				readTable(r, element(name, i), t, upstreamKnobs[:], name, &u)
				out.upstreams = append(out.upstreams, u)
			}
		case name == "route":
			for i, t := range r.tableList(name, value) {
				var u rawRoute
				readTable(r, element(name, i), t, routeKnobs[:], name, &u)
				out.routes = append(out.routes, u)
			}
		case slices.Contains(tables(), name):
			if t, ok := value.(map[string]any); ok {
				readTable(r, name, t, knobs[:], name, &out)
			} else {
				r.fault(name, fmt.Sprintf("want the table [%s] once, in single brackets", name), "")
			}
		case slices.Contains(top, name):
			readTable(r, "", map[string]any{name: value}, knobs[:], "", &out)
		default:
			r.unknown("", name, value)
		}
	}
	return out
}

// keysOf yields the keys of the knobs in a table.
func keysOf[T any](knobs []knob[T], table string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range knobs {
			if knobs[i].table == table && !yield(knobs[i].key) {
				return
			}
		}
	}
}

// tableList returns the tables of an array of tables, which may also be written inline.
func (r *report) tableList(name string, value any) []map[string]any {
	switch value := value.(type) {
	case []map[string]any:
		return value
	case []any:
		list := make([]map[string]any, len(value))
		for i, v := range value {
			t, ok := v.(map[string]any)
			if !ok {
				r.fault(element(name, i), "want a table, got "+kind(v), "")
				return nil
			}
			list[i] = t
		}
		return list
	default:
		r.fault(name, fmt.Sprintf("want [[%s]], in double brackets, since there may be several", name), "")
		return nil
	}
}

// readTable reads the knobs of the table called name, which stands at path.
func readTable[T any](r *report, path string, table map[string]any, knobs []knob[T], name string, dst *T) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		i := slices.IndexFunc(knobs, func(k knob[T]) bool { return k.table == name && k.key == key })
		if i < 0 {
			r.unknown(path, key, table[key])
			continue
		}
		readKnob(r, join(path, key), table[key], &knobs[i], dst)
	}
}

// unknown reports a key that no table has here.
func (r *report) unknown(path, key string, value any) {
	table, _, _ := strings.Cut(path, "[")
	what, own, elsewhere := "key", []string(nil), ""
	for _, k := range Knobs() {
		switch {
		case k.Table == table:
			own = append(own, k.Key)
		case k.Key == key && elsewhere == "":
			elsewhere = "it belongs " + place(k.Table)
		}
	}
	switch value.(type) {
	case map[string]any, []map[string]any:
		what = "table"
		if table == "" {
			own = append(tables(), "upstream", "route")
		}
	}
	hint := ""
	switch near := nearest(key, own); {
	case near != "":
		hint = fmt.Sprintf("did you mean %q?", near)
	case elsewhere != "" && what == "key":
		hint = elsewhere
	default:
		hint = "there are " + strings.Replace(choices(own), " or ", " and ", 1)
	}
	r.fault(join(path, key), fmt.Sprintf("unknown %s %q", what, key), hint)
}

// place says where in the file a table's keys stand.
func place(table string) string {
	switch table {
	case "":
		return "at the top of the file, before the first table"
	case "upstream", "route":
		return "in [[" + table + "]]"
	default:
		return "in [" + table + "]"
	}
}

// readKnob reads one value, checks its type and bounds, and sets it.
func readKnob[T any](r *report, path string, value any, k *knob[T], dst *T) {
	at := k.at(dst)
	if list, ok := at.(*[]string); ok {
		r.readList(path, value, k.sample(), list)
		return
	}
	v, ok := convert(at, value)
	if !ok {
		r.fault(path, fmt.Sprintf("want %s, as %s; got %s", wanted(at), k.sample(), shown(value)), mistaken(at, value))
		return
	}
	if s, ok := v.(seconds); ok && time.Duration(s)%time.Second != 0 {
		r.fault(path, fmt.Sprintf("want whole seconds, as TTLs are; got %s", written(value)), "")
		return
	}
	if s, ok := v.(string); ok && len(k.choices) > 0 && !slices.Contains(k.choices, s) {
		r.fault(path, fmt.Sprintf("want %s; got %q", choices(k.choices), s), didYouMean(s, k.choices))
		return
	}
	if k.min != nil && !(k.zero && equal(v, size(0))) && (!(compare(v, k.min) >= 0) || compare(v, k.max) > 0) {
		or := ""
		if k.zero {
			or = `"0", or `
		}
		r.fault(path, fmt.Sprintf("want %s%s to %s; got %s", or, format(k.min), format(k.max), written(value)), "")
		return
	}
	assign(at, v)
}

// sample is an example of the knob's value, as TOML.
func (k *knob[T]) sample() string {
	if k.example == "" {
		return format(k.std)
	}
	if _, list := k.std.([]string); list {
		return format([]string{k.example})
	}
	return format(k.example)
}

func didYouMean(word string, candidates []string) string {
	if n := nearest(word, candidates); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return ""
}

// readList reads a list of texts.
func (r *report) readList(path string, value any, sample string, dst *[]string) {
	list, ok := value.([]any)
	if !ok {
		hint := ""
		if s, ok := value.(string); ok {
			hint = "write [" + quote(s) + "]"
		}
		if _, tables := value.([]map[string]any); tables {
			value = map[string]any{}
		}
		r.fault(path, fmt.Sprintf("want a list of texts in quotes, as %s; got %s", sample, shown(value)), hint)
		return
	}
	out := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			r.fault(element(path, i), fmt.Sprintf("want text in quotes; got %s", shown(v)), "")
		}
		out[i] = s
	}
	*dst = out
}

// convert turns the library's value into the type that at points to.
func convert(at, value any) (v any, ok bool) {
	switch at.(type) {
	case *string:
		v, ok = value.(string)
	case *bool:
		v, ok = value.(bool)
	case *int:
		n, isInt := value.(int64)
		v, ok = int(max(math.MinInt32, min(n, math.MaxInt32))), isInt // every bound lies within
	case *float64:
		if n, isInt := value.(int64); isInt {
			return float64(n), true
		}
		v, ok = value.(float64)
		ok = ok && !math.IsNaN(v.(float64))
	case *time.Duration:
		v, ok = parseDuration(value)
	case *seconds:
		var d time.Duration
		d, ok = parseDuration(value)
		v = seconds(d)
	case *size:
		var s string
		if s, ok = value.(string); ok {
			v, ok = parseSize(s)
		}
	default:
		panic(fmt.Sprintf("config: internal error: no way to read a %T", at))
	}
	return v, ok
}

func parseDuration(value any) (time.Duration, bool) {
	s, ok := value.(string)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}

// wanted names what belongs at a place of at's type.
func wanted(at any) string {
	switch at.(type) {
	case *string:
		return "text in quotes"
	case *bool:
		return "true or false, without quotes"
	case *int:
		return "a whole number, without quotes"
	case *float64:
		return "a number, without quotes"
	case *size:
		return "a size in quotes"
	default:
		return "a time in quotes"
	}
}

// mistaken tells how to write what was probably meant.
func mistaken(at, value any) string {
	s, text := value.(string)
	switch at.(type) {
	case *size:
		switch {
		case value == int64(0):
			return `write "0"`
		case text:
			return "the units are B, KiB, MiB, GiB and TiB, right behind a whole number"
		}
		return ""
	case *time.Duration, *seconds:
		if n, ok := value.(int64); ok {
			return fmt.Sprintf("write %q for seconds", strconv.FormatInt(n, 10)+"s")
		}
		if days, ok := strings.CutSuffix(s, "d"); ok {
			if n, err := strconv.ParseUint(days, 10, 16); err == nil {
				return fmt.Sprintf("write %q", strconv.FormatUint(n*24, 10)+"h")
			}
		}
		if text {
			return "the units are ms, s, m and h, right behind a number"
		}
	}
	return ""
}

// kind names the type of a TOML value.
func kind(value any) string {
	switch value.(type) {
	case string:
		return "text"
	case bool:
		return "a boolean"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	default:
		return "a table"
	}
}

// written is a simple value as it stands in the file.
func written(value any) string {
	if s, ok := value.(string); ok {
		return quote(s)
	}
	return fmt.Sprint(value)
}

// shown is any value as messages show it, with its kind.
func shown(value any) string {
	switch v := value.(type) {
	case string:
		return fmt.Sprintf("%.80q", v)
	case bool, int64, float64:
		return fmt.Sprintf("%s %v", kind(v), v)
	default:
		return kind(v)
	}
}

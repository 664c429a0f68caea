package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// assign sets what dst points to; v has that type.
func assign(dst, v any) {
	switch d := dst.(type) {
	case *string:
		*d = v.(string)
	case *[]string:
		*d = slices.Clone(v.([]string))
	case *bool:
		*d = v.(bool)
	case *int:
		*d = v.(int)
	case *float64:
		*d = v.(float64)
	case *time.Duration:
		*d = v.(time.Duration)
	case *seconds:
		*d = v.(seconds)
	case *size:
		*d = v.(size)
	default:
		panic(fmt.Sprintf("config: internal error: no way to assign to a %T", dst))
	}
}

// load returns what p points to.
func load(p any) any {
	switch p := p.(type) {
	case *string:
		return *p
	case *[]string:
		return *p
	case *bool:
		return *p
	case *int:
		return *p
	case *float64:
		return *p
	case *time.Duration:
		return *p
	case *seconds:
		return *p
	case *size:
		return *p
	default:
		panic(fmt.Sprintf("config: internal error: no way to load from a %T", p))
	}
}

// format writes a value as TOML.
func format(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case time.Duration:
		return quote(formatDuration(v))
	case seconds:
		return quote(formatDuration(time.Duration(v)))
	case size:
		return quote(formatSize(v))
	default:
		panic(fmt.Sprintf("config: internal error: no way to format a %T", v))
	}
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// formatDuration writes 24h, and not 24h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// unit is a unit of size.
type unit struct {
	name   string
	octets size
}

var units = [...]unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func formatSize(v size) string {
	for _, u := range units {
		if v != 0 && v%u.octets == 0 {
			return strconv.FormatInt(int64(v/u.octets), 10) + u.name
		}
	}
	return "0"
}

// parseSize reads what formatSize writes.
func parseSize(s string) (size, bool) {
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	if n == 0 && digits == s {
		return 0, true
	}
	for _, u := range units {
		if s[len(digits):] == u.name && n <= math.MaxInt64/int64(u.octets) {
			return size(n) * u.octets, true
		}
	}
	return 0, false
}

// compare orders two values of one type that has an order.
func compare(a, b any) int {
	switch a := a.(type) {
	case int:
		return cmp.Compare(a, b.(int))
	case float64:
		return cmp.Compare(a, b.(float64))
	case time.Duration:
		return cmp.Compare(a, b.(time.Duration))
	case seconds:
		return cmp.Compare(a, b.(seconds))
	case size:
		return cmp.Compare(a, b.(size))
	default:
		panic(fmt.Sprintf("config: internal error: no order among %T", a))
	}
}

// equal reports whether two values of one type are the same.
func equal(a, b any) bool {
	if list, ok := a.([]string); ok {
		return slices.Equal(list, b.([]string))
	}
	return a == b
}

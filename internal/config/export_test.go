package config

// Scan is scan, for the test that compares it with the library.
func Scan(text string) (lines map[string]int, deep int) {
	lines, _, deep = scan(text)
	return lines, deep
}

// Join and Element make paths.
var (
	Join    = join
	Element = element
	Quote   = quote
)

// Package metrics writes numbers in Prometheus' text format, and serves them over HTTP.
//
// It counts nothing itself, and binds no socket. It stands in for Prometheus' own client library,
// which would bring eight modules and a third of the program's size for these lines (v1.25: 2.9 MB with
// protobuf), and reads /proc, which the sandbox closes; promtool's linter judges what is written here. A Text
// is for one goroutine.
//
// The format is that of prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
package metrics

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"dnsproxy/internal/histogram"
)

// contentType is the format's.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Kind is what a family of samples is.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Text is a page of metrics.
type Text struct {
	page bytes.Buffer
	name string // of the family under way
}

// Bytes returns the page.
func (t *Text) Bytes() []byte { return t.page.Bytes() }

// Family begins a family. All its samples follow before the next one begins. help is one
// sentence.
func (t *Text) Family(name string, kind Kind, help string) {
	t.name = name
	t.page.WriteString("# HELP " + name + " " + escape(help, false) + "\n# TYPE " + name + " " + string(kind) + "\n")
}

// Sample writes a value of the family. labels are names and values by turns.
func (t *Text) Sample(value float64, labels ...string) {
	t.sample(t.name, value, labels)
}

// One writes a family of one sample without labels.
func (t *Text) One(name string, kind Kind, help string, value float64) {
	t.Family(name, kind, help)
	t.Sample(value)
}

// Durations writes a histogram of the family, in seconds. Its buckets end at the powers of two of
// nanoseconds from 1<<first to 1<<last, where h is exact.
func (t *Text) Durations(h *histogram.Histogram, first, last int, labels ...string) {
	all := h.Count()
	for k := first; k <= last; k++ {
		end := time.Duration(1) << k
		t.sample(t.name+"_bucket", float64(h.AtMost(end)), append(labels[:len(labels):len(labels)], "le", number(end.Seconds())))
	}
	t.sample(t.name+"_bucket", float64(all), append(labels[:len(labels):len(labels)], "le", "+Inf"))
	t.sample(t.name+"_sum", h.Sum.Seconds(), labels)
	t.sample(t.name+"_count", float64(all), labels)
}

func (t *Text) sample(name string, value float64, labels []string) {
	if len(labels)%2 != 0 {
		panic("metrics: internal error: label without value")
	}
	t.page.WriteString(name)
	separator := "{"
	for i := 0; i < len(labels); i += 2 {
		t.page.WriteString(separator + labels[i] + `="` + escape(labels[i+1], true) + `"`)
		separator = ","
	}
	if len(labels) > 0 {
		t.page.WriteByte('}')
	}
	t.page.WriteString(" " + number(value) + "\n")
}

// number writes a value as the format has it.
func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// escape writes a help text or a label's value.
func escape(s string, quoted bool) string {
	s = strings.ReplaceAll(strings.ReplaceAll(strings.ToValidUTF8(s, "?"), `\`, `\\`), "\n", `\n`)
	if quoted {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}

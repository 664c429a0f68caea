package main_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// completion is what one shell offers: options of each command that has any, as "--json" and "--config=".
type completion struct {
	synopses map[string]string // by command; nil if the shell does not show them
	options  map[string][]string
}

func readCompletion(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../../packaging/completions/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// bashCompletion reads the list of commands, and a line for each command's options.
func bashCompletion(t *testing.T) (c completion, commands []string) {
	text := readCompletion(t, "dnsproxy.bash")
	c.options = map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\tcommands='(.*)'$`).FindAllStringSubmatch(text, -1) {
		commands = strings.Fields(m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\t([a-z]+)\) options='(.*)' ;;$`).FindAllStringSubmatch(text, -1) {
		c.options[m[1]] = strings.Fields(m[2])
	}
	return c, commands
}

// zshCompletion reads the list of commands, and a line for each command's options, in which variables
// stand for those that several have.
func zshCompletion(t *testing.T) (c completion, commands []string) {
	text := readCompletion(t, "_dnsproxy")
	c.options, c.synopses = map[string][]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^    '([a-z]+):(.*)'$`).FindAllStringSubmatch(text, -1) {
		commands = append(commands, m[1])
		c.synopses[m[1]] = m[2]
	}
	variables := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  local ([a-z]+)='(.*)'$`).FindAllStringSubmatch(text, -1) {
		variables[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile(`(?m)^        ([a-z]+)\) _arguments (.*) ;;$`).FindAllStringSubmatch(text, -1) {
		line := os.Expand(m[2], func(name string) string { return variables[name] })
		c.options[m[1]] = regexp.MustCompile(`--[a-z]+=?`).FindAllString(regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(line, "["), -1)
	}
	return c, commands
}

// fishCompletion reads a line for each command, and one for each option of some commands.
func fishCompletion(t *testing.T) (c completion, commands []string) {
	text := readCompletion(t, "dnsproxy.fish")
	c.options, c.synopses = map[string][]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^complete -c dnsproxy -n __fish_dnsproxy_needs_command -a ([a-z]+) -d '(.*)'$`).FindAllStringSubmatch(text, -1) {
		commands = append(commands, m[1])
		c.synopses[m[1]] = strings.ToLower(m[2][:1]) + m[2][1:]
	}
	for _, m := range regexp.MustCompile(`(?m)^complete -c dnsproxy -n '__fish_dnsproxy_using ([a-z ]+)' -l ([a-z]+)( -[rx])?`).FindAllStringSubmatch(text, -1) {
		option := "--" + m[2]
		if m[3] != "" {
			option += "="
		}
		for command := range strings.FieldsSeq(m[1]) {
			c.options[command] = append(c.options[command], option)
		}
	}
	return c, commands
}

func TestShellsCompleteWhatThereIs(t *testing.T) {
	commands, synopses := programCommands(t)
	synopses["help"] = "list the commands"
	options := map[string][]string{}
	for _, c := range commands {
		if c != "help" {
			options[c] = append(programOptions(t, c), "--help")
		}
	}
	for shell, read := range map[string]func(*testing.T) (completion, []string){
		"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion,
	} {
		c, offered := read(t)
		sameSets(t, shell+": commands", offered, commands)
		if c.synopses != nil && !maps.Equal(c.synopses, synopses) {
			t.Errorf("%s: commands are described as %q, want %q", shell, c.synopses, synopses)
		}
		sameSets(t, shell+": commands with options", slices.Collect(maps.Keys(c.options)), slices.Collect(maps.Keys(options)))
		for command := range options {
			sameSets(t, shell+": options of "+command, c.options[command], options[command])
		}
	}
}

// fish has to know which options take a value that is a word of its own.
func TestFishKnowsWhichOptionsTakeAValue(t *testing.T) {
	var valued []string
	commands, _ := programCommands(t)
	for _, c := range commands {
		for _, o := range programOptions(t, c) {
			if name, ok := strings.CutSuffix(o, "="); ok && !slices.Contains(valued, name) {
				valued = append(valued, name)
			}
		}
	}
	m := regexp.MustCompile(`(?m)^set -g __fish_dnsproxy_valued (.*)$`).FindStringSubmatch(readCompletion(t, "dnsproxy.fish"))
	if m == nil {
		t.Fatal("the list is missing")
	}
	sameSets(t, "options with a value", strings.Fields(m[1]), valued)
}

// What help explains is what the program takes: the pages and the shells are held to it.
func TestOptionsThatHelpExplainsAreTaken(t *testing.T) {
	values := map[string]string{"--listen=": "127.0.0.1:5353", "--timeout=": "1s", "--pid=": "2"}
	commands, _ := programCommands(t)
	for _, c := range commands {
		for _, o := range programOptions(t, c) {
			if strings.HasSuffix(o, "=") && values[o] == "" {
				values[o] = "/nowhere"
			}
			if code, _, stderr := finish(t, c, o+values[o], "--help"); code != 0 {
				t.Errorf("%s %s: exit code %d, and %s", c, o, code, stderr)
			}
		}
	}
}

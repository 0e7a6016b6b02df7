// Renders a chart with Go's text/template and Sprig, as Helm's engine does: the yardstick for tools/gotemplate.py.
// Reads {"root": ..., "templates": {name: source}} and writes {name: text}.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

func main() {
	var input struct {
		Root      map[string]interface{}
		Templates map[string]string
	}
	decoder := json.NewDecoder(os.Stdin)
	check(decoder.Decode(&input))
	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		check(err)
		return strings.TrimSuffix(string(text), "\n")
	}
	functions["include"] = func(name string, value interface{}) (string, error) {
		var out bytes.Buffer
		err := all.ExecuteTemplate(&out, name, value)
		return out.String(), err
	}
	all.Funcs(functions)
	for name, source := range input.Templates {
		_, err := all.New(name).Parse(source)
		check(err)
	}
	output := map[string]string{}
	for name := range input.Templates {
		var out bytes.Buffer
		check(all.ExecuteTemplate(&out, name, input.Root))
		// Helm does the same to the zero values of missing keys
		output[name] = strings.ReplaceAll(out.String(), "<no value>", "")
	}
	check(json.NewEncoder(os.Stdout).Encode(output))
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

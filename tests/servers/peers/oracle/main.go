// The code by which Flux decides what to ignore and which version to take: a question in each line of stdin, an answer in
// each of stdout, both JSON. Ignore files, rules and paths are base64: they need not be UTF-8.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log"
	"os"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/fluxcd/pkg/sourceignore"
	"github.com/fluxcd/pkg/version"
)

type file struct {
	Dir, Text []byte
}

type question struct {
	// What of Paths stays?
	Files []file
	Spec  []byte
	Paths [][]byte
	// Which of Versions match?
	Constraint string
	Versions   []string
}

type answer struct {
	Kept  []bool `json:"kept,omitempty"`
	Valid bool   `json:"valid"`
	Match []bool `json:"match,omitempty"`
	Best  string `json:"best,omitempty"`
}

// As source-controller's reconcilers and the SourceIgnoreFilter of fluxcd/pkg/artifact apply them.
func ignore(q question) (a answer) {
	root := []string{"", "tmp", "work"}
	domain := func(dir string) []string {
		if dir == "" {
			return root
		}
		return append(append([]string{}, root...), strings.Split(dir, "/")...)
	}
	sort.Slice(q.Files, func(i, j int) bool { return bytes.Compare(q.Files[i].Dir, q.Files[j].Dir) < 0 })
	patterns := sourceignore.VCSPatterns(root)
	written := 0
	for _, f := range q.Files {
		found := sourceignore.ReadPatterns(bytes.NewReader(f.Text), domain(string(f.Dir)))
		patterns, written = append(patterns, found...), written+len(found)
	}
	if q.Spec != nil {
		found := sourceignore.ReadPatterns(bytes.NewReader(q.Spec), root)
		patterns, written = append(patterns, found...), written+len(found)
	}
	matcher := sourceignore.NewMatcher(patterns)
	if written == 0 {
		matcher = sourceignore.NewDefaultMatcher(nil, root)
	}
	for _, path := range q.Paths {
		a.Kept = append(a.Kept, !matcher.Match(domain(string(path)), false))
	}
	return a
}

func versions(q question) (a answer) {
	constraint, err := semver.NewConstraint(q.Constraint)
	a.Valid = err == nil
	var best *semver.Version
	for _, text := range q.Versions {
		found, err := version.ParseVersion(text)
		match := err == nil && a.Valid && constraint.Check(found)
		a.Match = append(a.Match, match)
		if match && (best == nil || found.GreaterThan(best)) {
			best = found
		}
	}
	if best != nil {
		a.Best = best.Original()
	}
	return a
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			log.Fatal(err)
		}
		a := versions
		if q.Paths != nil {
			a = ignore
		}
		if err := out.Encode(a(q)); err != nil {
			log.Fatal(err)
		}
	}
}

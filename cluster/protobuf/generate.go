// Writes messages.txt: the protobuf messages of the objects that the local cluster serves, from the Go types that
// define them. To renew it, in an empty folder with this file:
//
//	go mod init generate && go get k8s.io/api@v0.37.2 && go mod tidy && go run . > messages.txt
package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	authn "k8s.io/api/authentication/v1"
	authz "k8s.io/api/authorization/v1"
	batch "k8s.io/api/batch/v1"
	coord "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var roots = []any{
	core.Namespace{}, core.Pod{}, core.Secret{}, core.ConfigMap{}, core.Event{}, core.PersistentVolumeClaim{},
	core.ServiceAccount{}, core.Node{}, batch.Job{}, coord.Lease{}, policy.Eviction{}, meta.DeleteOptions{},
	authz.SelfSubjectAccessReview{}, authn.SelfSubjectReview{},
}

// Fields that the server does not read, with shapes of their own.
var skipped = map[string]bool{"managedFields": true, "extra": true}

var leaves = map[string]string{"Quantity": "quantity", "IntOrString": "int-or-text", "Time": "time", "MicroTime": "time"}

var messages = map[string][]string{}

func name(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Ptr:
		return name(t.Elem()) + "?"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64:
		return "int"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + name(t.Elem())
	case reflect.Map:
		return "{}" + name(t.Elem())
	case reflect.Struct:
		if leaf, ok := leaves[t.Name()]; ok {
			return leaf
		}
		visit(t)
		return t.Name()
	}
	panic("no name for " + t.String())
}

func visit(t reflect.Type) {
	if _, ok := messages[t.Name()]; ok {
		return
	}
	messages[t.Name()] = nil
	var lines []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag := strings.Split(f.Tag.Get("protobuf"), ",")
		field := strings.Split(f.Tag.Get("json"), ",")[0]
		if len(tag) < 2 || skipped[field] {
			continue
		}
		if f.Anonymous && field == "" {
			field = "." // In JSON its fields stand among those of the outer message.
		}
		lines = append(lines, fmt.Sprintf(" %s %s %s", tag[1], field, name(f.Type)))
	}
	messages[t.Name()] = lines
}

func main() {
	for _, root := range roots {
		visit(reflect.TypeOf(root))
	}
	names := make([]string, 0, len(messages))
	for n := range messages {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Println(n)
		for _, line := range messages[n] {
			fmt.Println(line)
		}
	}
}

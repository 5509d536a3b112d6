// Package chart tests the Helm chart with Helm's own engine against the manifests that kustomize makes of deploy/base: an
// operator who takes the one gets what an operator gets who takes the other.
package chart

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	chartFolder = "../../deploy/helm/paperclip-host"
	baseFolder  = "../../deploy/base"
	namespace   = "agents"
)

// object is a Kubernetes object as it stands in a manifest.
type object = map[string]any

// rendered holds the chart's objects by kind.
func rendered(t *testing.T, values object) map[string]object {
	t.Helper()
	chart, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	release := common.ReleaseOptions{Name: "any", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, file := range slices.Sorted(maps.Keys(files)) {
		documents = append(documents, files[file])
	}
	return byKind(t, strings.Join(documents, "\n---\n"))
}

// kustomized holds the objects of deploy/base by kind, as an overlay puts them into the namespace.
func kustomized(t *testing.T) map[string]object {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone
	made, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), overlay(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return byKind(t, string(text))
}

func overlay(t *testing.T) string {
	t.Helper()
	base, err := filepath.Abs(baseFolder)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	from, err := filepath.EvalSymlinks(folder)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(from, base)
	if err != nil {
		t.Fatal(err)
	}
	text := "namespace: " + namespace + "\nresources: [" + relative + "]\n"
	if err := filesys.MakeFsOnDisk().WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return folder
}

func byKind(t *testing.T, text string) map[string]object {
	t.Helper()
	objects := map[string]object{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var found object
		if err := yaml.Unmarshal([]byte(document), &found); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if found == nil {
			continue
		}
		kind := found["kind"].(string)
		if objects[kind] != nil {
			t.Fatalf("two objects of kind %s", kind)
		}
		objects[kind] = withoutNamespace(found)
	}
	return objects
}

// withoutNamespace drops what Helm adds to a release's objects when it installs them.
func withoutNamespace(found object) object {
	if metadata, ok := found["metadata"].(object); ok {
		delete(metadata, "namespace")
	}
	return found
}

// at is the place of a value in an object: keys, and numbers of elements.
func at(t *testing.T, root any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			root = root.(object)[step]
		case int:
			root = root.([]any)[step]
		}
	}
	return root
}

func TestTheChartIsWhatKustomizeMakes(t *testing.T) {
	chart, base := rendered(t, nil), kustomized(t)
	if len(base) < 6 {
		t.Fatalf("deploy/base has %d objects only", len(base))
	}
	if got, want := slices.Sorted(maps.Keys(chart)), slices.Sorted(maps.Keys(base)); !slices.Equal(got, want) {
		t.Fatalf("the chart has %v, kustomize %v", got, want)
	}
	for kind, want := range base {
		if got := chart[kind]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s differs\nchart:\n%s\nkustomize:\n%s", kind, text(t, got), text(t, want))
		}
	}
}

func TestEachValueArrivesAndNothingElseChanges(t *testing.T) {
	pod := []any{"Deployment", "spec", "template", "spec"}
	container := append(slices.Clone(pod), "containers", 0)
	for name, example := range map[string]struct {
		value any
		path  []any
	}{
		"replicas":    {2.0, []any{"Deployment", "spec", "replicas"}},
		"image":       {"registry.example/host@sha256:0", append(slices.Clone(container), "image")},
		"tokenSecret": {"other", append(slices.Clone(pod), "volumes", 0, "secret", "secretName")},
		"resources": {
			object{"limits": object{"memory": "1Gi"}, "requests": object{"cpu": "1", "memory": "1Gi"}},
			append(slices.Clone(container), "resources"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			chart, wanted := rendered(t, object{name: example.value}), rendered(t, nil)
			last := len(example.path) - 1
			parent := at(t, toAny(wanted), example.path[:last]...).(object)
			if reflect.DeepEqual(parent[example.path[last].(string)], example.value) {
				t.Fatal("this is the default: nothing is shown by it")
			}
			parent[example.path[last].(string)] = example.value
			if !reflect.DeepEqual(chart, wanted) {
				t.Errorf("with %s the chart is\n%s", name, text(t, chart))
			}
		})
	}
}

func TestTheChartsValuesAreAllTried(t *testing.T) {
	chart, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	values, err := util.ToRenderValues(chart, nil, common.ReleaseOptions{}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(values["Values"].(common.Values)))
	if tried := []string{"image", "replicas", "resources", "tokenSecret"}; !slices.Equal(names, tried) {
		t.Errorf("the chart has the values %v, tried are %v", names, tried)
	}
}

func toAny(objects map[string]object) any {
	all := object{}
	for kind, found := range objects {
		all[kind] = found
	}
	return all
}

func text(t *testing.T, value any) string {
	t.Helper()
	made, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(made)
}

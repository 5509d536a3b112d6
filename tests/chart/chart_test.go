// Package chart tests the Helm chart with Helm's own engine. The chart is the source of the manifests in deploy/base, which this test
// renders (`go -C tests/chart test ./... -update`) and compares, so that operators get the same objects from Helm and from kustomize.
package chart

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"flag"
	"maps"
	"os"
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
	// kustomization is the only file of deploy/base that is written by hand.
	kustomization = "kustomization.yaml"
	generated     = "# Rendered from deploy/helm/paperclip-host by `go -C tests/chart test ./... -update`: edit the chart instead.\n"
)

var update = flag.Bool("update", false, "write the rendered manifests to deploy/base")

// object is a Kubernetes object of a manifest.
type object = map[string]any

// files holds the chart's rendered templates by file name.
func files(t *testing.T, values object, namespace string) map[string]string {
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
	rendered, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]string{}
	for path, text := range rendered {
		byName[filepath.Base(path)] = text
	}
	return byName
}

// rendered holds the chart's objects by kind.
func rendered(t *testing.T, values object) map[string]object {
	t.Helper()
	files := files(t, values, namespace)
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
	if err := filesys.MakeFsOnDisk().WriteFile(filepath.Join(folder, kustomization), []byte(text)); err != nil {
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

// withoutNamespace drops the namespace, which Helm adds to a release's objects on installation.
func withoutNamespace(found object) object {
	if metadata, ok := found["metadata"].(object); ok {
		delete(metadata, "namespace")
	}
	return found
}

// at returns the value at a path: keys of objects and indices of lists.
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

func TestBaseIsRenderedFromTheChart(t *testing.T) {
	// Without a namespace: kustomize or kubectl sets it.
	want := files(t, nil, "")
	if *update {
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(baseFolder, name), []byte(generated+text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(baseFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if want[entry.Name()] == "" && entry.Name() != kustomization {
			t.Errorf("deploy/base/%s has no template: delete it, or add the template to the chart", entry.Name())
		}
	}
	for name, text := range want {
		found, err := os.ReadFile(filepath.Join(baseFolder, name))
		if err != nil {
			t.Error(err)
		} else if string(found) != generated+text {
			t.Errorf("deploy/base/%s is not what the chart renders: run `go -C tests/chart test ./... -update`", name)
		}
	}
}

func TestKustomizeAndChartGiveTheSameObjects(t *testing.T) {
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

func TestEachValueChangesItsFieldAndNothingElse(t *testing.T) {
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
				t.Fatal("the example is the default value, so it shows nothing")
			}
			parent[example.path[last].(string)] = example.value
			if !reflect.DeepEqual(chart, wanted) {
				t.Errorf("with %s the chart is\n%s", name, text(t, chart))
			}
		})
	}
}

func TestConfigurationIsMountedAndPassed(t *testing.T) {
	config := object{
		"agents":        object{"image": "acme/agent:1", "env": object{"HTTP_PROXY": "http://proxy:3128"}},
		"paperclip_pod": object{"selector": "app=paperclip"},
	}
	chart, plain := rendered(t, object{"config": config}), rendered(t, nil)
	toml := at(t, chart["ConfigMap"], "data", "serve.toml").(string)
	for _, line := range []string{"[agents]", `image = "acme/agent:1"`, "[agents.env]", `selector = "app=paperclip"`} {
		if !strings.Contains(toml, line) {
			t.Errorf("serve.toml has no %s:\n%s", line, toml)
		}
	}
	container := []any{"spec", "template", "spec", "containers", 0}
	args := at(t, chart["Deployment"], append(slices.Clone(container), "args")...).([]any)
	if !slices.Contains(args, any("--config=/etc/paperclip-host-config/serve.toml")) {
		t.Errorf("the configuration is not passed: %v", args)
	}
	if at(t, chart["Deployment"], "spec", "template", "metadata", "annotations") == nil {
		t.Error("a change of the configuration does not replace the pods")
	}
	mounts := func(of map[string]object) int {
		return len(at(t, of["Deployment"], append(slices.Clone(container), "volumeMounts")...).([]any))
	}
	if mounts(chart) != mounts(plain)+1 {
		t.Errorf("%d mounts, without a configuration %d", mounts(chart), mounts(plain))
	}
}

func TestTheChartMakesAnAuthorityAndACertificateForItsService(t *testing.T) {
	chart := rendered(t, object{"tls": object{"generate": true}})
	data := at(t, chart["Secret"], "data").(object)
	decoded := func(key string) []byte {
		bytes, err := base64.StdEncoding.DecodeString(data[key].(string))
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	pair, err := tls.X509KeyPair(decoded("tls.crt"), decoded("tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(decoded("ca.crt")) {
		t.Fatal("ca.crt has no certificate")
	}
	for _, name := range []string{"paperclip-host", "paperclip-host.agents.svc", "paperclip-host.agents.svc.cluster.local", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	volumes := at(t, chart["Deployment"], "spec", "template", "spec", "volumes").([]any)
	if !slices.ContainsFunc(volumes, func(volume any) bool {
		return reflect.DeepEqual(volume, object{"name": "tls", "secret": object{"secretName": "paperclip-host-tls"}})
	}) {
		t.Errorf("the Secret is not mounted: %v", volumes)
	}
}

func TestCertManagerMakesTheCertificate(t *testing.T) {
	issuer := object{"name": "ca", "kind": "ClusterIssuer"}
	chart := rendered(t, object{"tls": object{"issuerRef": issuer}})
	spec := at(t, chart["Certificate"], "spec").(object)
	if !reflect.DeepEqual(spec["issuerRef"], issuer) || spec["secretName"] != "paperclip-host-tls" || chart["Secret"] != nil {
		t.Errorf("the chart is\n%s", text(t, chart))
	}
	// A Secret of the operator's own precedes both.
	own := rendered(t, object{"tls": object{"secretName": "own", "issuerRef": issuer, "generate": true}})
	if own["Certificate"] != nil || own["Secret"] != nil {
		t.Errorf("the chart is\n%s", text(t, own))
	}
}

func TestACertificateIsMountedAndTheProbesUseIt(t *testing.T) {
	chart := rendered(t, object{"tls": object{"secretName": "host-tls"}})["Deployment"]
	pod := []any{"spec", "template", "spec"}
	container := append(slices.Clone(pod), "containers", 0)
	args := at(t, chart, append(slices.Clone(container), "args")...).([]any)
	for _, arg := range []string{
		"--listen=tls:0.0.0.0:7411", "--tls-certificate=/etc/paperclip-host-tls/tls.crt", "--tls-key=/etc/paperclip-host-tls/tls.key",
	} {
		if !slices.Contains(args, any(arg)) {
			t.Errorf("%s is not passed: %v", arg, args)
		}
	}
	if slices.Contains(args, any("--listen=0.0.0.0:7411")) {
		t.Error("it listens without TLS, too")
	}
	for _, probe := range []string{"startupProbe", "readinessProbe", "livenessProbe"} {
		if scheme := at(t, chart, append(slices.Clone(container), probe, "httpGet", "scheme")...); scheme != "HTTPS" {
			t.Errorf("%s has the scheme %v", probe, scheme)
		}
	}
	volume := object{"name": "tls", "secret": object{"secretName": "host-tls"}}
	mount := object{"name": "tls", "mountPath": "/etc/paperclip-host-tls", "readOnly": true}
	contains := func(path string, of []any, wanted object) {
		found := at(t, chart, append(slices.Clone(of), path)...).([]any)
		if !slices.ContainsFunc(found, func(one any) bool { return reflect.DeepEqual(one, any(wanted)) }) {
			t.Errorf("%s has no %v: %v", path, wanted, found)
		}
	}
	contains("volumes", pod, volume)
	contains("volumeMounts", container, mount)
}

func TestReplicasWithAKeyReachEachOther(t *testing.T) {
	chart, plain := rendered(t, object{"peerKeySecret": "shared"}), rendered(t, nil)
	pod := []any{"spec", "template", "spec"}
	container := append(slices.Clone(pod), "containers", 0)
	args := at(t, chart["Deployment"], append(slices.Clone(container), "args")...).([]any)
	for _, arg := range []string{"--advertise-url=http://$(POD_IP):7411", "--peer-key-file=/etc/paperclip-host-peers/key"} {
		if !slices.Contains(args, any(arg)) {
			t.Errorf("%s is not passed: %v", arg, args)
		}
	}
	for path, added := range map[string]any{
		"env":          object{"name": "POD_IP", "valueFrom": object{"fieldRef": object{"fieldPath": "status.podIP"}}},
		"volumeMounts": object{"name": "peers", "mountPath": "/etc/paperclip-host-peers", "readOnly": true},
	} {
		list := at(t, chart["Deployment"], append(slices.Clone(container), path)...).([]any)
		if !slices.ContainsFunc(list, func(one any) bool { return reflect.DeepEqual(one, added) }) {
			t.Errorf("%s has no %v", path, added)
		}
	}
	volumes := at(t, chart["Deployment"], append(slices.Clone(pod), "volumes")...).([]any)
	if want := any(object{"name": "peers", "secret": object{"secretName": "shared"}}); !slices.ContainsFunc(
		volumes, func(one any) bool { return reflect.DeepEqual(one, want) }) {
		t.Errorf("the key is no volume: %v", volumes)
	}
	from := at(t, plain["NetworkPolicy"], "spec", "ingress", 0, "from").([]any)
	own := at(t, plain["Deployment"], "spec", "selector")
	if !slices.ContainsFunc(from, func(one any) bool { return reflect.DeepEqual(at(t, one, "podSelector"), own) }) {
		t.Errorf("replicas do not reach each other: %v", from)
	}
	if got := at(t, plain["PodDisruptionBudget"], "spec", "selector"); !reflect.DeepEqual(got, own) {
		t.Errorf("the budget is for %v", got)
	}
}

// second returns the second object of a rendered file.
func second(t *testing.T, files map[string]string, name string) object {
	t.Helper()
	_, document, found := strings.Cut(files[name], "\n---\n")
	if !found {
		t.Fatalf("%s has one object only:\n%s", name, files[name])
	}
	var parsed object
	if err := yaml.Unmarshal([]byte(document), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// checkRole checks that a role grants one rule, and that the host's account is bound to it.
func checkRole(t *testing.T, role, binding, rule object) {
	t.Helper()
	if want := []any{rule}; !reflect.DeepEqual(role["rules"], want) {
		t.Errorf("it grants %v", role["rules"])
	}
	if at(t, binding, "subjects", 0, "namespace") != namespace || at(t, binding, "roleRef", "name") != at(t, role, "metadata", "name") {
		t.Errorf("it binds %v", binding)
	}
}

func TestPaperclipsNamespaceGivesTheRightToReadPodsThere(t *testing.T) {
	files := files(t, object{"paperclipNamespace": "paperclip"}, namespace)
	role, binding := second(t, files, "role.yaml"), second(t, files, "rolebinding.yaml")
	checkRole(t, role, binding, object{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"get", "list"}})
	for _, found := range []object{role, binding} {
		if at(t, found, "metadata", "namespace") != "paperclip" {
			t.Errorf("%s is in another namespace", found["kind"])
		}
	}
}

func TestPluginsInConfigMapsAreWatchedInTheReleasesNamespace(t *testing.T) {
	files := files(t, object{"pluginConfigMaps": true}, namespace)
	role, binding := second(t, files, "role.yaml"), second(t, files, "rolebinding.yaml")
	checkRole(t, role, binding, object{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"list", "watch"}})
	deployment := byKind(t, files["deployment.yaml"])["Deployment"]
	args := at(t, deployment, "spec", "template", "spec", "containers", 0, "args").([]any)
	if !slices.Contains(args, any("--plugins-namespace="+namespace)) {
		t.Errorf("the host is started with %v", args)
	}
}

func TestEveryValueOfTheChartIsTested(t *testing.T) {
	chart, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	values, err := util.ToRenderValues(chart, nil, common.ReleaseOptions{}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(values["Values"].(common.Values)))
	if tested := []string{"config", "image", "paperclipNamespace", "peerKeySecret", "pluginConfigMaps", "replicas", "resources", "tls", "tokenSecret"}; !slices.Equal(names, tested) {
		t.Errorf("the chart has the values %v, tested are %v", names, tested)
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

func TestReplicasTrustEachOthersCertificates(t *testing.T) {
	args := func(tls object) []any {
		chart := rendered(t, object{"peerKeySecret": "shared", "tls": tls})["Deployment"]
		return at(t, chart, "spec", "template", "spec", "containers", 0, "args").([]any)
	}
	passed := func(args []any, prefix string) string {
		for _, arg := range args {
			if value, found := strings.CutPrefix(arg.(string), prefix); found {
				return value
			}
		}
		return ""
	}
	own := args(object{"secretName": "host-tls"})
	if url := passed(own, "--advertise-url="); url != "https://$(POD_IP):7411" {
		t.Errorf("replicas advertise %q", url)
	}
	if file := passed(own, "--peer-ca-file="); file != "/etc/paperclip-host-tls/ca.crt" {
		t.Errorf("replicas trust %q", file)
	}
	if name := passed(own, "--peer-server-name="); !strings.HasPrefix(name, "paperclip-host.") || !strings.HasSuffix(name, ".svc") {
		t.Errorf("replicas expect %q", name)
	}
	public := args(object{"secretName": "host-tls", "caKey": "", "serverName": "host.example.com"})
	if file, name := passed(public, "--peer-ca-file="), passed(public, "--peer-server-name="); file != "" || name != "host.example.com" {
		t.Errorf("replicas trust %q and expect %q", file, name)
	}
}

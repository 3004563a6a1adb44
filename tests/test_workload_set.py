"""Do words select the workloads that they name, and are damaged sets refused?"""

import pytest

from tvm_conv3dt import workload_set
from tvm_conv3dt.errors import FileFormatError, WorkloadError, WorkloadNotFoundError
from tvm_conv3dt.spec import Workload

UP3_ID = "n1_x16x16x16x256_k2x2x2_y32x32x32x128_s2x2x2_d1x1x1_valid_f32_ndhwc_bias"
ENTRY = """
[[workload]]
name = "my/layer"
input = [1, 4, 4, 4, 2]
filters = [2, 2, 2, 3, 2]
output_shape = [1, 8, 8, 8, 3]
strides = [2, 2, 2]
padding = "VALID"
data_format = "NDHWC"
dtype = "float32"
"""
SET = "schema = 1\n" + ENTRY


@pytest.fixture
def file(tmp_path):
    """Write a set and return its path."""

    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


# ---- the sets of the package


def test_the_package_has_three_sets():
    assert workload_set.names() == ["ci", "demo", "suite"]


def test_the_suite_has_thirty_different_layers():
    suite = workload_set.resolve("suite")
    assert len({named.name for named in suite}) == 30
    assert len({named.workload for named in suite}) == 30


def test_the_suite_is_the_work_that_was_published():
    # The sums over all layers: a size mistyped anywhere shows.
    workloads = [named.workload for named in workload_set.resolve("suite")]
    assert sum(workload.flops for workload in workloads) == 193_637_859_584
    assert sum(workload.bytes for workload in workloads) == 2_582_508_704


def test_the_demo_is_three_levels_of_one_decoder():
    demo = [named.name for named in workload_set.resolve("demo")]
    assert demo == ["nnunet/up1", "nnunet/up3", "nnunet/up5"]


def test_ci_is_a_part_of_the_suite():
    ci, suite = workload_set.resolve("ci"), workload_set.resolve("suite")
    assert len(ci) == 10
    assert set(ci) < set(suite)


@pytest.mark.parametrize(
    ("name", "activation", "alpha"),
    [("vtn/deconv4", "leaky_relu", 0.1), ("nvtiny/d1", "elu", 1.0), ("rodnet/t2", None, None)],
)
def test_activations_of_the_suite(name, activation, alpha):
    (named,) = workload_set.resolve(name)
    assert (named.workload.activation, named.workload.alpha) == (activation, alpha)


# ---- words


def test_a_short_name_selects_one_layer():
    (named,) = workload_set.resolve("nnunet/up3")
    assert named.name == "nnunet/up3"
    assert named.workload == Workload.from_id(UP3_ID)


def test_an_id_selects_itself():
    assert workload_set.resolve(UP3_ID) == [
        workload_set.NamedWorkload(UP3_ID, Workload.from_id(UP3_ID))
    ]


def test_a_file_selects_what_it_holds(file):
    (named,) = workload_set.resolve(file(SET))
    assert named.name == "my/layer"
    assert named.workload == Workload.make(
        [1, 4, 4, 4, 2], [2, 2, 2, 3, 2], [1, 8, 8, 8, 3], 2, "VALID"
    )


def test_optional_fields_of_a_file(file):
    extra = 'dilations = [1, 1, 1]\nbias = true\nactivation = "elu"\nalpha = 0.5\n'
    (named,) = workload_set.resolve(file(SET + extra))
    assert (named.workload.bias, named.workload.activation) == (True, "elu")
    assert named.workload.alpha == 0.5


def test_padding_of_a_file_may_be_explicit(file):
    entry = ENTRY.replace("[1, 8, 8, 8, 3]", "[1, 7, 7, 8, 3]").replace('"VALID"', "[1, 1, 0]")
    ((named,)) = workload_set.resolve(file("schema = 1" + entry))
    assert named.workload.padding == (1, 1, 0)


@pytest.mark.parametrize("padding", ["[1, 1]", "[1, 1, -1]", "[1, 1, 1.0]", "[1, 1, true]", "1"])
def test_padding_of_a_file_that_is_none_is_refused(file, padding):
    with pytest.raises(FileFormatError, match=r"my/layer is not valid: .* with padding="):
        workload_set.resolve(file("schema = 1" + ENTRY.replace('"VALID"', padding)))


def test_a_file_picks_from_a_set_in_its_own_order(file):
    path = file('schema = 1\nfrom = "suite"\nnames = ["nnunet/up5", "nnunet/up1"]\n')
    assert [named.name for named in workload_set.resolve(path)] == ["nnunet/up5", "nnunet/up1"]


def test_a_file_picks_from_a_file_beside_it(file):
    file(SET, "base.toml")
    path = file('schema = 1\nfrom = "base.toml"\nnames = ["my/layer"]\n')
    assert [named.name for named in workload_set.resolve(path)] == ["my/layer"]


@pytest.mark.parametrize("word", ["nnunet/up9", "", "suite ", "Suite", "../workloads/suite"])
def test_an_unknown_word_is_refused_with_the_sets(word):
    with pytest.raises(WorkloadNotFoundError, match=r"failed to find workloads .*ci, demo, suite"):
        workload_set.resolve(word)


def test_a_word_that_looks_like_an_id_is_refused_as_one():
    with pytest.raises(WorkloadError, match="failed to read workload id"):
        workload_set.resolve(UP3_ID + "_gelu")


def test_a_missing_file_is_refused():
    with pytest.raises(FileFormatError, match=r"nowhere.toml: No such file"):
        workload_set.resolve("nowhere.toml")


# ---- several words


def test_several_words_select_each_workload_once():
    names = [named.name for named in workload_set.resolve_all(["nnunet/up3", "demo", UP3_ID])]
    assert names == ["nnunet/up3", "nnunet/up1", "nnunet/up5"]


def test_equal_layers_are_selected_by_name_where_asked():
    words = [UP3_ID, "nnunet/up3", "demo", UP3_ID]
    named = workload_set.resolve_all(words, by_name=True)
    assert [each.name for each in named] == [UP3_ID, "nnunet/up3", "nnunet/up1", "nnunet/up5"]
    assert named[0].workload == named[1].workload


def test_layer_that_cannot_be_recast_is_named():
    with pytest.raises(
        WorkloadError, match=r"failed to recast workload with nnunet/up3: .*it is for"
    ):
        workload_set.resolve_all(["nnunet/up3"], dtype="float64", precision="bfloat16")


def test_one_name_for_two_workloads_is_refused(file):
    with pytest.raises(
        WorkloadError, match="its name nnunet/up3 already stands for n1_x16x16x16x256"
    ):
        workload_set.resolve_all(["suite", file(SET.replace("my/layer", "nnunet/up3"))])


# ---- damaged files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its field schema must be the integer 1, not None"),
        ("schema = 2\n", "its schema is 2 and this version reads 1"),
        ("schema = 1\n", r"it needs at least one \[\[workload\]\], or from and names"),
        ("schema = 1\nworkload = []\n", "it needs at least one"),
        ("schema = 1\nworkload = [1]\n", "its workload 1 must be a table"),
        ("schema = 1\nworkloads = 1\n", "it has the unknown field 'workloads'"),
        (SET + "stride = 2\n", "its workload my/layer is not valid: .*stride=2: the fields are"),
        (
            SET.replace("strides", "dilations"),
            "workload my/layer is not valid: .*strides is missing",
        ),
        (
            SET.replace("[1, 8,", "[1, 10,"),
            "workload my/layer is not valid: .*an output of 10 needs",
        ),
        (SET.replace("[1, 4,", "[true, 4,"), "workload my/layer is not valid: .*not bools"),
        (SET.replace('name = "my/layer"', ""), "its workload 1 has the name None"),
        (SET.replace("my/layer", "../up"), "its workload 1 has the name '../up'"),
        (SET.replace("my/layer", UP3_ID), "looks like an id"),
        (SET + ENTRY, "its name my/layer is there 2 times"),
        ('schema = 1\nfrom = "suite"\n', "its names are None"),
        ('schema = 1\nfrom = "suite"\nnames = []\n', "its names are .* a list of short names"),
        ('schema = 1\nfrom = 1\nnames = ["x"]\n', "its from is 1"),
        (
            'schema = 1\nfrom = "all"\nnames = ["x"]\n',
            r"its from is 'all', no set \(ci, demo, suite\)",
        ),
        (
            'schema = 1\nfrom = "demo"\nnames = ["psm/conv5"]\n',
            "'psm/conv5' is not in demo .nnunet/up1",
        ),
        ('schema = 1\nfrom = "demo"\nnames = ["a", "a"]\n', "its name a is there 2 times"),
        ('schema = 1\nfrom = "mine.toml"\nnames = ["a"]\n', "its from leads back to itself"),
        ('schema = 1\nfrom = "demo"\nnames = ["a"]\nworkload = []\n', "unknown field 'workload'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_path(file, text, message):
    path = file(text)
    with pytest.raises(FileFormatError, match=message) as caught:
        workload_set.resolve(path)
    assert path in str(caught.value)


def test_all_are_recast_under_their_own_names():
    named = workload_set.resolve_all(["nnunet/up3", UP3_ID], "NCDHW", "float16")
    expected = Workload.from_id(UP3_ID).recast("NCDHW", "float16")
    assert named == [workload_set.NamedWorkload("nnunet/up3", expected)]
    (by_id,) = workload_set.resolve_all([UP3_ID], "NCDHW", "float16")
    assert by_id == workload_set.NamedWorkload(expected.id, expected)


def test_a_file_may_say_a_precision(file):
    path = file(SET + 'precision = "bfloat16"\n')
    (named,) = workload_set.resolve(path)
    assert named.workload.precision == "bfloat16"


def test_a_precision_that_does_not_go_with_the_dtype_is_refused_with_the_layer(file):
    path = file(SET.replace("float32", "float16") + 'precision = "bfloat16"\n')
    with pytest.raises(
        FileFormatError, match=r"workload my/layer is not valid: .*precision='bfloat16'"
    ):
        workload_set.resolve(path)


def test_all_are_recast_to_a_precision():
    named = workload_set.resolve_all(["nnunet/up3", UP3_ID], precision="bfloat16")
    expected = Workload.from_id(UP3_ID.replace("f32", "f32pbf16"))
    assert named == [workload_set.NamedWorkload("nnunet/up3", expected)]
    (by_id,) = workload_set.resolve_all([UP3_ID], precision="bfloat16")
    assert by_id.name == expected.id

"""Encoders that are known by name: each is its authors' network, preprocessing and pooling, on random weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from packaging.version import Version
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from umedfeat.encoders import load_encoder
from umedfeat.encoders.known import KNOWN, KnownEncoder
from umedfeat.encoders.timm_models import filled_network
from umedfeat.encoders.weights import hub
from umedfeat.errors import CheckpointRefused, WeightsUnavailable

#: The same kinds of network, thin: a stub has the names and the parts of the real one, not its size.
THIN = {"embed_dim": 48, "depth": 2, "num_heads": 3}


def thin(known: KnownEncoder) -> KnownEncoder:
    dim = {"class": 48, "class+mean": 96, "attention": 16}[known.pool] if known.names != "open-clip" else 20
    ratio = {} if "mlp_ratio" in known.arguments else {"mlp_ratio": 4.0}
    side = {"image_size": {518: 56, 448: 64}.get(known.image_size, known.image_size)}
    return dataclasses.replace(known, arguments={**known.arguments, **THIN, **ratio}, dim=dim, **side)


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from umedfeat.encoders import timm_models

    monkeypatch.setattr(timm_models, "KNOWN", {name: thin(known) for name, known in KNOWN.items()})
    yield


def timm_stub(known: KnownEncoder, **more: Any) -> Any:
    """The network as its card says that it is made with timm."""
    from timm.layers import SwiGLUPacked

    swiglu = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if known.swiglu else {}
    torch.manual_seed(1)
    arguments = {"img_size": known.image_size, **known.arguments, **swiglu, **more}
    model = timm.create_model(known.architecture, pretrained=False, num_classes=0, **arguments)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    return model.eval()


def authors_vectors(known: KnownEncoder, model: Any, images: torch.Tensor) -> torch.Tensor:
    """Resized to the card's size, normalised with the card's numbers, pooled as the card says."""
    side = known.image_size
    if images.shape[-1] != side:
        images = functional.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(triple).view(1, 3, 1, 1) for triple in known.normalisation)
    with torch.inference_mode():
        tokens = model.forward_features((images - mean) / std)
        registers = int(known.arguments.get("reg_tokens", 4 if "reg4" in known.architecture else 0))
        class_token, patches = tokens[:, 0], tokens[:, 1 + registers :]
    return torch.cat([class_token, patches.mean(1)], -1) if known.pool == "class+mean" else class_token


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.names == "timm"])
@pytest.mark.usefixtures("stubbed")
def test_those_of_timm_give_their_authors_vectors(name: str, tmp_path: Path) -> None:
    known = thin(KNOWN[name])
    model = timm_stub(known)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = load_encoder(name, weights=tmp_path / "model.safetensors", device="cpu")
    assert (encoder.dim, encoder.image_size) == (known.dim, known.image_size)
    for side in (known.image_size, 70):
        images = torch.rand(2, 3, side, side)
        assert torch.allclose(encoder(images), authors_vectors(known, model, images), atol=2e-5)
    assert encoder.settings["mean"] == list(known.normalisation[0])
    assert encoder.settings["pooling"] == known.pool


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.names in ("vit", "dinov2")])
@pytest.mark.usefixtures("stubbed")
def test_those_of_transformers_give_its_vectors(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    known = thin(KNOWN[name])
    patch = 14 if "patch14" in known.architecture else 16
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "layer_norm_eps": 1e-6}
    places = {"image_size": known.image_size, "patch_size": patch}
    torch.manual_seed(1)
    if known.names == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(intermediate_size=192, **sizes, **places), False)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, **places))
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    model.eval().save_pretrained(tmp_path)
    encoder = load_encoder(name, weights=tmp_path / "model.safetensors", device="cpu")
    images = torch.rand(2, 3, known.image_size, known.image_size)
    mean, std = (torch.tensor(triple).view(1, 3, 1, 1) for triple in known.normalisation)
    with torch.inference_mode():
        expected = model(pixel_values=(images - mean) / std).last_hidden_state
    assert torch.allclose(encoder(images), expected[:, 0], atol=2e-5)
    side = known.image_size // patch
    grid = encoder(images, return_tokens=True)  # type: ignore[call-arg]
    assert torch.allclose(grid, expected[:, 1:].unflatten(1, (side, side)), atol=2e-5)


@pytest.mark.usefixtures("stubbed")
def test_biomedclip_is_its_trunk_and_projection(tmp_path: Path) -> None:
    known = thin(KNOWN["biomedclip"])
    trunk, projection = timm_stub(known), torch.randn(20, 48)
    state = {f"visual.trunk.{key}": value for key, value in trunk.state_dict().items()}
    torch.save({**state, "visual.head.proj.weight": projection, "logit_scale": torch.ones([])}, tmp_path / "clip.bin")
    encoder = load_encoder("biomedclip", weights=tmp_path / "clip.bin", device="cpu")
    images = torch.rand(2, 3, 224, 224)
    expected = authors_vectors(known, trunk, images) @ projection.T
    assert torch.allclose(encoder(images), expected, atol=2e-4)


def coca_state(trunk: dict[str, torch.Tensor], width: int, dim: int) -> dict[str, torch.Tensor]:
    """Weights under the names of the authors' file, with a little of what else is in it."""
    torch.manual_seed(2)
    pooler = {"query": (1, dim), "attn.in_proj_bias": (3 * dim,), "attn.out_proj.bias": (dim,)}
    pooler |= {f"attn.{kind}_proj_weight": (dim, width if kind in "kv" else dim) for kind in "qkv"}
    pooler |= {"attn.out_proj.weight": (dim, dim)}
    pooler |= {f"{norm}.{part}": (size,) for norm, size in (("ln_q", dim), ("ln_k", width)) for part in PARTS}
    drawn = {f"visual.attn_pool_contrast.{name}": torch.randn(size) * 0.3 for name, size in pooler.items()}
    drawn |= {f"visual.ln_contrast.{part}": torch.randn(dim) for part in PARTS}
    others = {"visual.proj_contrast": torch.randn(dim, dim), "text.ln_final.weight": torch.ones(4)}
    return {**{f"visual.trunk.{key}": value for key, value in trunk.items()}, **drawn, **others}


PARTS = ("weight", "bias")


def pooled_by_hand(state: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """What the authors' pooler computes, head by head: one query asks all tokens, the class token among them."""
    part = {key.removeprefix("visual.attn_pool_contrast."): value.double() for key, value in state.items()}

    def normed(values: torch.Tensor, name: str) -> torch.Tensor:
        spread = values.var(-1, unbiased=False, keepdim=True)
        centred = (values - values.mean(-1, keepdim=True)) / torch.sqrt(spread + 1e-5)
        return centred * part[f"{name}.weight"] + part[f"{name}.bias"]

    dim = part["query"].shape[1]
    for_query, for_key, for_value = part["attn.in_proj_bias"].split(dim)
    context = normed(tokens.double(), "ln_k")
    asked = normed(part["query"], "ln_q") @ part["attn.q_proj_weight"].T + for_query
    keys = context @ part["attn.k_proj_weight"].T + for_key
    values = context @ part["attn.v_proj_weight"].T + for_value
    heads = []
    for head in range(8):
        own = slice(head * dim // 8, (head + 1) * dim // 8)
        weights = torch.softmax(keys[..., own] @ asked[0, own] / (dim // 8) ** 0.5, dim=1)
        heads.append((weights[..., None] * values[..., own]).sum(1))
    mixed = torch.cat(heads, -1) @ part["attn.out_proj.weight"].T + part["attn.out_proj.bias"]
    return normed(mixed, "visual.ln_contrast").float()


@pytest.mark.usefixtures("stubbed")
def test_conch_is_its_trunk_and_what_a_query_finds_in_all_tokens(tmp_path: Path) -> None:
    known = thin(KNOWN["conch"])
    trunk = timm_stub(known)
    state = coca_state(trunk.state_dict(), 48, 16)
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = load_encoder("conch", weights=tmp_path / "pytorch_model.bin", device="cpu")
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(triple).view(1, 3, 1, 1) for triple in known.normalisation)
    with torch.inference_mode():
        tokens = trunk.forward_features((images - mean) / std)
    assert torch.allclose(encoder(images), pooled_by_hand(state, tokens), atol=1e-4)
    grid = encoder(images, return_tokens=True)  # type: ignore[call-arg]
    assert torch.allclose(grid.flatten(1, 2), tokens[:, 1:], atol=1e-4)
    del state["visual.attn_pool_contrast.ln_k.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointRefused, match=r"lacks 1 tensors, e.g. token_norm.bias"):
        load_encoder("conch", weights=tmp_path / "pytorch_model.bin", device="cpu")


@pytest.mark.skipif(Version(timm.__version__) < Version("1.0.22"), reason="its ViTs are not built without memory")
@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: known.name)
def test_the_real_size_is_what_the_table_says(known: KnownEncoder) -> None:
    """Without memory for its weights, and two blocks deep: dimensions and number of tokens fit."""
    known = dataclasses.replace(known, arguments={**known.arguments, "depth": 2})
    with torch.device("meta"):
        state = timm_stub_state(known)
        network = filled_network(known, state, "stub")
        vectors = network(torch.zeros(1, 3, known.image_size, known.image_size))
    assert vectors.shape == (1, known.dim)


def timm_stub_state(known: KnownEncoder) -> dict[str, torch.Tensor]:
    from timm.layers import SwiGLUPacked

    swiglu = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if known.swiglu else {}
    arguments = {"img_size": known.image_size, **known.arguments, **swiglu}
    state: dict[str, torch.Tensor] = timm.create_model(known.architecture, num_classes=0, **arguments).state_dict()
    if known.names == "open-clip":
        trunk = {f"visual.trunk.{key}": value for key, value in state.items()}
        return {**trunk, "visual.head.proj.weight": torch.zeros(known.dim, 768)}
    if known.names == "coca":
        return coca_state(state, 768, known.dim)
    return state if known.names == "timm" else as_transformers(state)


def as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names to those of transformers' DINOv2."""
    outside = {"cls_token": "cls_token", "pos_embed": "position_embeddings"}
    found = {f"embeddings.{new}": state[old] for old, new in outside.items()}
    for key, value in state.items():
        if key.startswith("patch_embed.proj."):
            found[f"embeddings.patch_embeddings.projection.{key.rpartition('.')[2]}"] = value
        elif key.startswith("norm."):
            found[f"layernorm.{key.rpartition('.')[2]}"] = value
        elif key.startswith("blocks."):
            _, block, part = key.split(".", 2)
            place, kind = f"encoder.layer.{block}", key.rpartition(".")[2]
            if "qkv" in part:
                for name, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    found[f"{place}.attention.attention.{name}.{kind}"] = third
            else:
                part = part.replace("attn.proj", "attention.output.dense").replace("ls", "layer_scale")
                found[f"{place}.{part.replace('.gamma', '.lambda1')}"] = value
    return found


@pytest.mark.usefixtures("stubbed")
def test_other_weights_are_refused(tmp_path: Path) -> None:
    model = timm_stub(thin(KNOWN["virchow"]))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for name in ("uni", "virchow2", "phikon", "biomedclip", "conch"):
        with pytest.raises(CheckpointRefused, match="not a state dict of this model"):
            load_encoder(name, weights=tmp_path / "model.safetensors", device="cpu")


@pytest.mark.usefixtures("stubbed")
def test_a_training_checkpoint_is_its_state_dict(tmp_path: Path) -> None:
    model = timm_stub(thin(KNOWN["uni"]))
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "trained.pth")
    images = torch.rand(1, 3, 224, 224)
    plain, trained = (load_encoder("uni", weights=tmp_path / f"{n}.pth", device="cpu") for n in ("plain", "trained"))
    assert torch.equal(plain(images), trained(images))


class Gadget:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this pickle was executed",)


@pytest.mark.usefixtures("stubbed")
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"cls_token": Gadget()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointRefused, match="unsafe"):
        load_encoder("uni", weights=tmp_path / "pytorch_model.bin", device="cpu")
    assert "executed" not in capsys.readouterr().out
    torch.save(["no", "state"], tmp_path / "list.bin")
    with pytest.raises(CheckpointRefused, match="no state dict"):
        load_encoder("uni", weights=tmp_path / "list.bin", device="cpu")


def test_without_network_the_way_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="offline") as caught:
        load_encoder("uni", device="cpu", offline=True)
    assert "--weights FILE" in caught.value.remedy


TOKEN = "hf_thisIsASecretToken"


@pytest.mark.parametrize(
    ("error", "told"), [("GatedRepoError", "hf auth login"), ("RepositoryNotFoundError", "HF_TOKEN")]
)
def test_gated_models_say_how_to_be_let_in_and_never_the_token(
    error: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def refused(*_: object, **__: object) -> str:
        raised = getattr(errors, error)
        raise raised.__new__(raised)

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with caplog.at_level(logging.DEBUG), pytest.raises(WeightsUnavailable) as caught:
        load_encoder("virchow2", device="cpu")
    assert told in caught.value.remedy
    assert "CC-BY-NC-ND-4.0" in caplog.text  # the licence, before the download
    assert TOKEN not in caplog.text + str(caught.value) + caught.value.remedy


def test_the_repositorys_files_are_tried_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repository: str, name: str, revision: str | None) -> str:
        asked.append((repository, name, revision))
        if name.endswith(".safetensors"):
            raise EntryNotFoundError.__new__(EntryNotFoundError)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    names = ("model.safetensors", "pytorch_model.bin")
    found = hub.fetch_first(hub.Repository.of("one/two@v1"), names, offline=False)
    assert found == tmp_path / "pytorch_model.bin"
    assert asked == [("one/two", name, "v1") for name in names]


def test_the_table_of_the_documentation_is_this_one() -> None:
    """``python docs/known_encoders.py`` writes it."""
    import runpy

    docs = Path(__file__).resolve().parents[2] / "docs"
    assert runpy.run_path(str(docs / "known_encoders.py"))["table"]() in (docs / "encoders.md").read_text("utf-8")

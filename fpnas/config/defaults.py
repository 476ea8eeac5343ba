"""The whole config tree. Every key has its unit and its meaning; nothing else is accepted."""

from __future__ import annotations

from fpnas.config.config import CfgNode as CN

_C = CN()

# Version of this tree. A file without VERSION is read as the current version.
_C.VERSION = 1

# Folder of everything that a run writes: run.yaml, config.yaml, log.txt, metrics.json, checkpoints,
# reports.
# What an earlier run left there is moved to a folder earlier-1 in it, unless it is resumed.
_C.OUTPUT_DIR = "./output"

# Seed of every random choice: initial weights, data order, augmentation, sampled architectures.
_C.SEED = 0

# --------------------------------------------------------------------------------------------------
_C.MODEL = CN()
# Architecture to build: a name in ARCH_REGISTRY or the path of an architecture's YAML file. Empty,
# for a classifier: that of MODEL.WEIGHTS that know theirs (of a training or search, or "zoo://NAME").
_C.MODEL.ARCH = ""
# Outputs of the classifier. 0: as many as the dataset has classes in a training, else the
# architecture's own number. Weights of another number of classes leave a number that is given here
# (or in a training, that of the data) with a fresh classifier; the log lists what was dropped.
_C.MODEL.NUM_CLASSES = 0
# Channels of the image. 0: the architecture's own number, 3 in all shipped ones. Weights of another
# number are adapted to a number that is given here: summed for 1, else repeated and scaled.
_C.MODEL.IN_CHANNELS = 0
# Checkpoint (.pth or .safetensors) to start from, or "zoo://NAME". Empty: random initialisation.
_C.MODEL.WEIGHTS = ""
# Probability of zeroing a feature in front of the classifier.
_C.MODEL.DROPOUT = 0.0
# Stochastic depth: probability of dropping the last block with a shortcut; grows linearly from 0.
_C.MODEL.DROP_PATH = 0.0
# Normalisation: "BN"; "FrozenBN" (statistics, scale and shift are constants: for pretrained weights
# and small batches); "SyncBN" (statistics over the batches of all processes, on GPUs).
_C.MODEL.NORM = "BN"
# The stem and this many stages are constant in a training: no gradients, frozen BatchNorm, no
# dropped blocks. 0: nothing is.
_C.MODEL.FREEZE_STAGES = 0
# A backbone in place of a classifier: names of the stages whose feature maps it returns, such as
# ("stage3", "stage5"). ("auto",): the last stage of each of the three largest strides, which are 8,
# 16 and 32 for the usual networks. (): a classifier.
_C.MODEL.OUT_FEATURES = ()
# Largest stride of a backbone's maps, input rows per row: 16 or 8, by dilation, for segmentation.
# 0: as designed.
_C.MODEL.OUTPUT_STRIDE = 0

# --------------------------------------------------------------------------------------------------
_C.DATA = CN()
# Name in DATASET_REGISTRY: "fashion_mnist_mini" (embedded), "fashion_mnist", "image_folder".
_C.DATA.NAME = "fashion_mnist_mini"
# Folder of the dataset. image_folder: holds train/ and val/ (or test/), one folder a class in each.
_C.DATA.ROOT = ""
# Side of the square network input, px.
_C.DATA.INPUT_SIZE = 28
# Use this many classes, chosen at random by SEED (the paper's ImageNet-100: 100). 0: all.
_C.DATA.NUM_RANDOM_CLASSES = 0
# Mean and standard deviation per RGB channel, for pixels in [0, 1]. A training warns where they are
# not those of MODEL.WEIGHTS.
_C.DATA.MEAN = (0.485, 0.456, 0.406)
_C.DATA.STD = (0.229, 0.224, 0.225)
# Test images: the shorter side is resized to INPUT_SIZE / CROP_RATIO, then the centre is cropped.
_C.DATA.CROP_RATIO = 0.875
# Resampling of resized images: "bilinear" or "bicubic".
_C.DATA.INTERPOLATION = "bilinear"
# An unreadable image stops the run (False) or is left out, with a count in the log (True).
_C.DATA.SKIP_CORRUPT = False
# Decode all images once and keep them as uint8 in memory: "auto" (when all have the same size and
# fit into CACHE_LIMIT), "always" or "never".
_C.DATA.CACHE = "auto"
# Limit of the cache, MB (10^6 bytes).
_C.DATA.CACHE_LIMIT = 2000
# Processes that decode and augment; images held in memory are augmented in batches by one thread.
_C.DATA.NUM_WORKERS = 2
# Share of the training images held out as "val" when the folder has neither val/ nor test/.
_C.DATA.HOLD_OUT = 0.1

# Augmentation of training images. ----------------------------------------------------------------
_C.DATA.AUGMENT = CN()
# "resized": RandomResizedCrop; "pad": shift within PAD pixels of zero padding; "none".
_C.DATA.AUGMENT.CROP = "pad"
# Zero padding of the "pad" crop, px.
_C.DATA.AUGMENT.PAD = 2
# Area of the "resized" crop, share of the image.
_C.DATA.AUGMENT.SCALE = (0.08, 1.0)
# Probability of a horizontal flip.
_C.DATA.AUGMENT.HFLIP = 0.5
# Policy from torchvision: "" (none), "autoaugment-imagenet", "autoaugment-cifar10", "randaugment",
# "trivialaugment".
_C.DATA.AUGMENT.POLICY = ""
# Largest change of brightness, contrast and saturation, share of what they are, 0 to 1.
_C.DATA.AUGMENT.COLOR = 0.0
# Probability of erasing a random rectangle.
_C.DATA.AUGMENT.ERASE = 0.0

# --------------------------------------------------------------------------------------------------
# Optimisation of the model weights omega. A search refuses BODY_LR, LABEL_SMOOTHING, EMA_DECAY,
# COMPILE and DISTILL, which it does not use.
_C.SOLVER = CN()
# Passes over the training images (in a search: over its training half), warm-up included.
# 0, in the training of a classifier: as many as fine-tuning on so many images needs. 0, in a search
# from a trained network: likewise, and with it BATCH_SIZE (LR is then meant for 32 images),
# SEARCH.WARMUP_EPOCHS and SEARCH.VAL_BATCH_SIZE.
_C.SOLVER.EPOCHS = 30
# Images a step, over all processes. 0, in the training of a classifier: as suits fine-tuning on so
# many images; LR is then meant for 32 images and changes in proportion.
_C.SOLVER.BATCH_SIZE = 128
# "sgd", "rmsprop" (eps 0.0316 and alpha 0.9, as in torchvision's recipe) or "adamw".
# A search knows "sgd" only: it steps just the weights that its samples touched.
_C.SOLVER.OPTIMIZER = "sgd"
# Learning rate at the start of the schedule, for BATCH_SIZE images a step.
_C.SOLVER.LR = 0.1
# Learning rate of all but the head's last layer in the training of a classifier, share of LR. Below
# 1 it spares pretrained weights while a fresh classifier learns.
_C.SOLVER.BODY_LR = 1.0
_C.SOLVER.MOMENTUM = 0.9
_C.SOLVER.NESTEROV = False
_C.SOLVER.WEIGHT_DECAY = 4e-5
# Weight decay of BatchNorm parameters and biases.
_C.SOLVER.WEIGHT_DECAY_NORM = 0.0
# "cosine" (to LR_END), "exponential" (times LR_DECAY an epoch), "onecycle" or "constant".
_C.SOLVER.SCHEDULE = "cosine"
# Final learning rate of "cosine" and "onecycle", share of LR.
_C.SOLVER.LR_END = 0.0
# Factor an epoch of "exponential".
_C.SOLVER.LR_DECAY = 0.9875
# Epochs in which the learning rate rises linearly from LR_WARMUP_FACTOR * LR to LR.
_C.SOLVER.LR_WARMUP_EPOCHS = 0.0
_C.SOLVER.LR_WARMUP_FACTOR = 0.1
# Probability mass that label smoothing moves to the other classes.
_C.SOLVER.LABEL_SMOOTHING = 0.0
# Decay a step of the exponential moving average of the weights, which is then evaluated. 0: none.
_C.SOLVER.EMA_DECAY = 0.0
# Largest gradient norm; a larger gradient is scaled down to it. 0: no limit.
_C.SOLVER.CLIP_GRAD_NORM = 0.0
# Memory format channels_last: 1.2 to 1.7 times faster for these networks on CPUs.
_C.SOLVER.CHANNELS_LAST = True
# bfloat16 autocast. Slower than float32 on most CPUs; meant for GPUs.
_C.SOLVER.AMP = False
# torch.compile the trained network. Slower than eager mode on the CPUs tried; meant for GPUs.
_C.SOLVER.COMPILE = False

# Distillation [Hinton et al. 2015] from a trained teacher.
_C.SOLVER.DISTILL = CN()
# Architecture (name or YAML file) and checkpoint of the teacher, which may know its architecture.
# Both empty: no distillation.
_C.SOLVER.DISTILL.ARCH = ""
_C.SOLVER.DISTILL.WEIGHTS = ""
# Share of the distillation loss; the labels' loss has the rest.
_C.SOLVER.DISTILL.WEIGHT = 0.5
# Temperature that divides both logits.
_C.SOLVER.DISTILL.TEMPERATURE = 1.0

# --------------------------------------------------------------------------------------------------
_C.SEARCH = CN()
# Name in SPACE_REGISTRY, or "around:ARCH": what becomes of that architecture (a name or a YAML
# file) when some of its blocks, channels and kernels are cut away. "around": of MODEL.ARCH, or of
# the architecture of MODEL.WEIGHTS. Around an architecture MODEL.WEIGHTS are those of that network,
# from which the search starts; SHARING must be "all".
_C.SEARCH.SPACE = "FP-NAS-Micro"
# Shortcuts of its MBConv blocks: "equal", where input and output have the same shape (the paper),
# or "always", with pooled maps and channels cut or filled up with zeros. "": the space's own.
_C.SEARCH.SHORTCUT = ""
# "probabilistic": architectures are sampled, the method of FP-NAS. "differentiable": each step
# computes a mixture of all choices, as FBNetV2 does, a baseline for groups of MBConv blocks. Its
# distribution is factorised; it refuses DISTRIBUTION, JOINT_EPOCH, SAMPLING, LAMBDA, NUM_SAMPLES,
# ESTIMATOR, FORGETTING, LIKELIHOOD_SCALE, WARMUP_SAMPLES, RATING_SHARE and CLASSIFIER_LR, which it
# does not use.
_C.SEARCH.METHOD = "probabilistic"
# Temperature of the Gumbel-softmax in a differentiable search, at the end of the warm-up and at the
# end of the search; it falls exponentially in between.
_C.SEARCH.TEMPERATURE_START = 5.0
_C.SEARCH.TEMPERATURE_END = 0.5
# What the budget counts: "flops" (multiply-adds), "params" (conv and linear weights) or "latency"
# (ms of one image in ONNX Runtime on this machine, summed over measured blocks).
_C.SEARCH.COST = "flops"
# The budget, in units of COST. The returned architecture costs at most this.
_C.SEARCH.TARGET = 3e6
# Several budgets in place of TARGET, such as [60e6, 90e6]: one search that shares the supernet and
# its warm-up, with a distribution and an architecture for each. They take the steps in turn.
_C.SEARCH.TARGETS = ()
# Share of the budget that the returned architecture costs at least, such as 0.95.
_C.SEARCH.FLOOR = 0.0
# Input size, px, and number of classes at which the cost is counted. 0: those of the data.
_C.SEARCH.COST_INPUT_SIZE = 0
# An input size, px, for each of TARGETS, in place of COST_INPUT_SIZE.
_C.SEARCH.COST_INPUT_SIZES = ()
_C.SEARCH.COST_NUM_CLASSES = 0
# File of measured blocks for "latency" (JSON; made if it does not exist), and threads of a call.
_C.SEARCH.LATENCY_TABLE = ""
_C.SEARCH.LATENCY_THREADS = 1
# Share of the training images that updates omega; the rest (the validation half) updates alpha.
_C.SEARCH.TRAIN_FRACTION = 0.5
# Epochs in which the whole network of MODEL.WEIGHTS is fine-tuned before a search around it starts,
# if it has other classes than the data. 0: as many as so many images need.
_C.SEARCH.FULL_EPOCHS = 0
# First epochs, in which only omega is updated, on samples of the initial distribution.
_C.SEARCH.WARMUP_EPOCHS = 5.0
# Architectures a step of the warm-up; 1 trains the supernet at the least cost. 0: as SAMPLING says.
_C.SEARCH.WARMUP_SAMPLES = 0
# Share of the steps after the warm-up, spread evenly, that rate samples and update the distribution
# alone: no training batch, no gradient. They count as steps of SOLVER.EPOCHS, but not in SCHEDULE.
# 1: the weights are those of the warm-up.
_C.SEARCH.RATING_SHARE = 0.0
# "joint" (JD), "factorized" (FD) or "mixed": FD that turns into JD after epoch JOINT_EPOCH.
_C.SEARCH.DISTRIBUTION = "mixed"
_C.SEARCH.JOINT_EPOCH = 10.0
# "adaptive": K = max(1, floor(LAMBDA * entropy in nats)), equation 4; "fixed": K = NUM_SAMPLES.
_C.SEARCH.SAMPLING = "adaptive"
_C.SEARCH.LAMBDA = 0.25
_C.SEARCH.NUM_SAMPLES = 14
# "paper": equation 7 to the letter. "budgeted": over-target samples are redrawn before they are
# evaluated, at least 2 samples a step, and the mean of the importance weights is subtracted.
# "additive": every rating so far counts, by a Gaussian posterior over the effects of all choices;
# samples are drawn by it, and several budgets share the ratings. BETA, ALPHA_LR and
# LIKELIHOOD_SCALE do not matter to it, and it has at least 4 samples a step.
_C.SEARCH.ESTIMATOR = "budgeted"
# What earlier ratings keep of their weight in a step of "additive", which changes with the
# supernet; 1: all of it.
_C.SEARCH.FORGETTING = 1.0
# Coefficient beta of the cost share in equation 7; in a differentiable search, of the hinge
# max(0, expected cost / target - 1) beside the cross-entropy.
_C.SEARCH.BETA = 0.3
# The log-likelihood of a validation batch is this times its mean over the images. The literal
# product over the images would be the batch size.
_C.SEARCH.LIKELIHOOD_SCALE = 96.0
# Adam's constant learning rate for alpha.
_C.SEARCH.ALPHA_LR = 0.016
# Validation images that rate the samples of a step, over all processes.
_C.SEARCH.VAL_BATCH_SIZE = 128
# Which choices share weights: "paper" (own weights for every kernel size and number of splits),
# "pointwise" (the 1x1 convolutions are shared by all choices of a block) or "all" (moreover, a
# small kernel is the centre of a large one, and Squeeze-Excite does not change the depthwise
# convolution).
_C.SEARCH.SHARING = "paper"
# Start every block as its shortcut: the weight of its last BatchNorm is 0. Needs SHORTCUT "always".
_C.SEARCH.ZERO_INIT_RESIDUAL = False
# Learning rate of the supernet's classifier, share of SOLVER.LR. The more features it has, the
# sooner it diverges: with 1984, the spaces of many blocks need about 0.05.
_C.SEARCH.CLASSIFIER_LR = 1.0
# So many of the most promising architectures within budget are trained for a while, each on its
# own, and the best is returned: FINALIST_EPOCHS in the first round, as long again for the better
# half in each further one. They start with the weights of the "supernet" or with "fresh" ones. 0:
# the search has the last word.
_C.SEARCH.FINALISTS = 0
_C.SEARCH.FINALIST_EPOCHS = 2
_C.SEARCH.FINALIST_WEIGHTS = "supernet"
# Training batches that measure BatchNorm statistics before an architecture is evaluated.
_C.SEARCH.BN_BATCHES = 10
# Most probable architectures listed in the result.
_C.SEARCH.TOP_M = 5

# --------------------------------------------------------------------------------------------------
_C.TEST = CN()
# Epochs between two evaluations. 0: only at the end.
_C.TEST.PERIOD = 1
_C.TEST.BATCH_SIZE = 250

_C.CHECKPOINT = CN()
# Epochs between two checkpoints. (An interrupt saves one, too.)
_C.CHECKPOINT.PERIOD = 1
# Periodic checkpoints kept; at least 2.
_C.CHECKPOINT.KEEP = 2

_C.LOG = CN()
# Steps between two records in log.txt, metrics.json and TensorBoard. A search writes every step to
# metrics.json.
_C.LOG.PERIOD = 20
_C.LOG.TENSORBOARD = True

# --------------------------------------------------------------------------------------------------
_C.EXPORT = CN()
# Names in EXPORT_FORMATS.
_C.EXPORT.FORMATS = ("onnx", "torchscript")
# Exactly equivalent rewrites that make the ONNX graph faster, names in fpnas.export.REWRITES:
# "pad_channels" (to multiples of 16, for CPUs with AVX-512), "split_branches" (a convolution for
# each split), "global_pool" (GlobalAveragePool), "resize_gates" (gates of the map's size),
# "plain_hswish" (Add, Clip and Mul for hard-swish: for accelerators of phones, slower on a CPU).
# "auto": those that help on this CPU. "phone": those after which NNAPI and CoreML take the whole
# graph. (): as PyTorch exports it.
_C.EXPORT.REWRITES = ("auto",)
# Images a call of the exported network.
_C.EXPORT.BATCH_SIZE = 1
# Test images on which an exported file is compared with the PyTorch model; at least 2.
_C.EXPORT.PARITY_IMAGES = 100
# Let an exported file take any number of images a call; slower in some runtimes.
_C.EXPORT.DYNAMIC_BATCH = False
# Put the normalisation into the graph, which then takes uint8 pixels (N, S, S, 3).
_C.EXPORT.BAKE_PREPROCESS = False
# Folder with images, in any layout, that set the ranges of int8 activations. Empty: those of
# training.
_C.EXPORT.CALIBRATION = ""
# Images that are taken for that; at least 100 are advisable.
_C.EXPORT.CALIBRATION_IMAGES = 200
# How ranges follow from activations: "minmax", "entropy" or "percentile".
_C.EXPORT.INT8_METHOD = "minmax"
# int8 weights small enough for x86 processors without VNNI, which otherwise overflow. False: the
# full range, a third of a bit more, for ARM.
_C.EXPORT.INT8_X86_SAFE = True
# Accuracy that int8 may lose on the check images, percentage points (without labels: images whose
# best class changes, percent). While it loses more, the most sensitive layers are kept in float.
_C.EXPORT.INT8_MAX_DROP = 100.0

# Keys of earlier versions, which stand in the config.yaml of old runs.
_C.register_deprecated_key("EXPORT.INT8_WEIGHT_BITS")

# From here on attributes that are not listed above are refused.
_C.set_new_allowed(False)
